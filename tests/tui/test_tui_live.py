"""The live screen driven by keys and mouse: how things stand, its views, its cursor, and what it shows where."""

from typing import Any

from live_support import running

from hopwatch_collector.api import models


async def test_the_live_screen_says_how_things_stand(shop: Any) -> None:
    """Header, verdict counts and flows fit on 80×24, each flow with state, hops, undelivered, age and latency."""
    async with running(shop) as live:
        await live.sees(
            "● live", "35 spans/s", "✓ 1,812 settled", "■ 3 stuck", "1 Flows 11", "2 Undelivered 3", "3 Lag 1"
        )
        assert live.line("POST /checkout").split() == (
            ["▌", "!", "undelivered", "POST", "/checkout", "gateway", "4", "1", "1s", "42ms"]
        )


async def test_views_switch_by_number_and_tab(shop: Any) -> None:
    """1, 2, 3 and Tab go through the views."""
    async with running(shop) as live:
        for key, words in (
            ("2", "VERDICT"),
            ("3", "OLDEST"),
            ("1", "LATENCY"),
            ("tab", "VERDICT"),
            ("shift+tab", "LATENCY"),
        ):
            await live.press(key)
            await live.sees(words)


async def test_the_cursor_stays_on_its_flow(shop: Any, make: Any) -> None:
    """New flows come in above; the cursor goes along with the flow it is on and stays in sight."""
    async with running(shop) as live:
        await live.press("j", "j")
        assert "POST /orders/3 " in live.cursor()
        old = [make.flow_summary(number) for number in range(2, 12)]
        new = [make.flow_summary(number, started_at=make.ago(0)) for number in range(50, 150)]
        shop.show(make.live(new[:5] + old))
        await live.sees("POST /orders/50")
        assert "POST /orders/3 " in live.cursor()
        shop.show(make.live(new + old))
        await live.sees("1 Flows 110")
        assert "POST /orders/3 " in live.cursor()
        await live.press("g")
        assert "POST /orders/50 " in live.cursor()


async def test_pause_holds_the_screen_still(shop: Any, make: Any) -> None:
    """Space holds, counts what is newer, and catches up."""
    async with running(shop) as live:
        await live.press("space")
        await live.sees("‖ paused")
        shop.show(make.live([make.flow_summary(77)]))
        await live.sees("1 newer snapshot")
        assert "POST /checkout" in live.screen()
        await live.press("space")
        await live.sees("● live", "POST /orders/77")


async def test_a_line_says_which_services_lost_spans(shop: Any, make: Any) -> None:
    """The ledger has gaps then: the line names the latest of them, as many as fit, and goes when there are none."""
    lost = [
        models.Loss(
            service=service, spans=spans, reasons={"queue_full": spans}, first_at=make.ago(9), last_at=make.ago(1), processes=1
        )
        for service, spans in (("billing", 1_234), ("mail", 5), ("till", 7), ("audit", 1))
    ]  # fmt: skip
    async with running(shop, size=(130, 24)) as live:
        shop.show(make.live([make.flow_summary(1)], losses=lost))
        await live.sees("billing 1,234, mail 5, till 7 and 1 more; their part of the ledger has gaps")
        shop.show(make.live([make.flow_summary(1)]))
        await live.misses("the ledger has gaps")
    async with running(shop) as live:
        shop.show(make.live([make.flow_summary(1)], losses=lost))
        await live.sees("1,247 spans lost: the ledger has gaps")


async def test_an_empty_live_view_says_what_to_do(api: Any) -> None:
    """Without flows the screen says how to get some."""
    async with running(api) as live:
        await live.sees("No flow in the last 5m.", "hopwatch run --")
        await live.press("2")
        await live.sees("Nothing undelivered in the last 5m.")
        await live.press("3")
        await live.sees("No receiver is known yet.")


async def test_copy_takes_the_id_under_the_cursor(shop: Any) -> None:
    """`y` copies the flow's id, and the message's where one is under the cursor."""
    async with running(shop) as live:
        await live.press("y")
        assert live.app.clipboard == f"{1:032x}"
        await live.press("2")
        await live.sees("2,375")
        await live.press("y")
        assert live.app.clipboard == "00000000-0000-0000-0000-000000000002"


async def test_the_mouse_moves_and_opens(shop: Any) -> None:
    """A click puts the cursor on a line, another opens it."""
    async with running(shop) as live:
        await live.pilot.click("#list-flows", offset=(20, 3))
        assert "POST /orders/4 " in live.cursor()
        await live.press("k", "k", "k")
        await live.pilot.click("#list-flows", offset=(20, 0))
        await live.sees("1 Waterfall 7")


async def test_wide_screens_show_more(shop: Any) -> None:
    """With room, business keys and ids have columns of their own."""
    async with running(shop, size=(160, 40)) as live:
        await live.sees("KEYS", "order_id=1", "…00000001", "ERR")


async def test_every_action_is_in_the_palette_and_q_ends(shop: Any) -> None:
    """The palette offers what the keys do; q leaves."""
    async with running(shop) as live:
        commands = {command.title for command in live.app.get_system_commands(live.app.screen)}
        assert {"Search", "Filter", "Pause", "Undelivered"} <= commands
        await live.press("q")
        await live.until(lambda: not live.app.is_running)


async def test_verdict_counts_shrink_to_their_glyphs(api: Any, make: Any) -> None:
    """Where the words do not fit on the line, the glyphs stay, each with its number."""
    counts = [
        models.VerdictCount(verdict=verdict, deliveries=1000 + n)
        for n, verdict in enumerate(sorted(models.Verdict)[:8])
    ]
    api.show(make.live(verdicts=counts))
    async with running(api) as live:
        await live.sees("† 1,000  × 1,002  − 1,001", "◊ 1,005")
    async with running(api, size=(160, 24)) as live:
        await live.sees("† 1,000 dead-lettered", "× 1,002 expired")
