"""What a hop, a lag and a search open."""

from typing import Any

from live_support import running

from hopwatch_collector.api import models


async def test_a_hop_opens_its_message(shop: Any, make: Any) -> None:
    """Enter on a hop shows the message with attempts and evidence; f opens its flow."""
    async with running(shop) as live:
        await live.press("2")
        await live.sees("VERDICT")
        await live.press("enter")
        await live.sees("evidence", "producer, consumer", "ATTEMPT", "alias-2")
        await live.press("f")
        await live.sees("1 Waterfall 7")


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
