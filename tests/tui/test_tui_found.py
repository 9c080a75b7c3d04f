"""What a hop, a lag and a search open."""

from typing import Any

from live_support import running

from hopwatch_collector.api import models


async def test_a_cause_opens_its_messages_and_they_open(shop: Any, make: Any) -> None:
    """Enter on a cause lists its messages; Enter on one shows it with attempts and evidence; f opens its flow."""
    async with running(shop) as live:
        await live.press("2")
        await live.sees("2,375")
        await live.press("enter")
        await live.sees("! overdue  orders.placed → mail", "0002", "TRIES")
        await live.press("enter")
        await live.sees("evidence", "producer, consumer", "ATTEMPT", "alias-2")
        await live.press("f")
        await live.sees("1 Waterfall 7")


async def test_a_cause_opens_no_message_of_another(shop: Any, make: Any) -> None:
    """What the collector cannot be asked for is left out here: other causes, other receivers where nobody was owed it."""
    nobody = {"verdict": "no_receiver", "cause": "no_receiver", "system": "kafka"}
    shop.causes = [make.cause(**nobody, receiver="")]
    shop.deliveries = [
        make.delivery(7, **nobody, receiver="", consumer=""),
        make.delivery(8, **nobody, receiver="billing"),
        make.delivery(9, **nobody | {"cause": "no_receiver.declared"}, receiver="", consumer=""),
    ]
    async with running(shop, size=(140, 24)) as live:
        await live.press("2")
        await live.sees("2,375")
        await live.press("enter")
        await live.sees("00000007")
        assert "00000008" not in live.screen()
        assert "00000009" not in live.screen()
        path, asked = shop.asked[-1]
        assert path == "deliveries"
        assert {("verdict", "no_receiver"), ("destination", "orders.placed"), ("since", "300s")} <= set(asked)
        assert "receiver" not in dict(asked)
        shop.deliveries = []
        await live.press("r")
        await live.sees("Nothing is undelivered for this cause any more.")


async def test_a_lag_opens_what_waits(shop: Any) -> None:
    """Enter on a lag asks for the deliveries behind the number."""
    async with running(shop) as live:
        await live.press("3")
        await live.sees("WAITING")
        await live.press("enter")
        await live.sees("orders.placed → billing", "3 waiting", "overdue")
        path, asked = shop.asked[-1]
        assert path == "deliveries"
        assert {("receiver", "billing"), ("destination", "orders.placed"), ("verdict", "waiting")} <= set(
            asked
        )


async def test_search_asks_the_collector_and_opens_what_it_found(shop: Any) -> None:
    """`s`, a query, Enter, Enter: the message found is open."""
    shop.hits = [
        models.SearchHit(
            kind="message",
            id="alias-2",
            why="alias",
            title="orders.placed",
            at="2026-01-31T11:59:00Z",
            state="settled",
            flow_id="",
        )
    ]
    async with running(shop) as live:
        await live.press("s")
        await live.sees("Type an id, a business key or its value.")
        await live.press(*"4711", "enter")
        await live.sees("1 result", "orders.placed", "✓ settled")
        assert ("q", "4711") in shop.asked[-1][1]
        await live.press("enter")
        await live.sees("also known as  alias-2")


async def test_a_search_that_finds_nothing_says_what_to_do(shop: Any) -> None:
    """No result names the query and where to look further."""
    async with running(shop) as live:
        await live.press("ctrl+f", *"zzz", "enter")
        await live.sees("Nothing found for “zzz”", "hopwatch find --since 7d")
