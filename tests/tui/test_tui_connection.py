"""The live view without its collector: lost, silent, not there yet, and left before it answers."""

from typing import Any

from live_support import running

from hopwatch_tui.model import Connection


async def test_a_lost_connection_keeps_the_screen_and_comes_back(shop: Any, make: Any) -> None:
    """Losing the collector says so and keeps the rows; when it is back the view goes on by itself."""
    async with running(shop) as live:
        shop.stop()
        await live.sees("▲ no connection", "POST /checkout", "hopwatch collect")
        shop.show(make.live([make.flow_summary(77)]))
        shop.start()
        await live.press("r")
        await live.sees("● live", "POST /orders/77")
        assert live.app.model.connection is Connection.LIVE


async def test_without_a_collector_the_screen_says_what_to_do(api: Any) -> None:
    """Started before the collector is, the view says how to start one."""
    api.stop()
    async with running(api) as live:
        await live.sees("No collector at", "Start one with `hopwatch collect`")


async def test_an_opened_flow_survives_a_lost_connection(shop: Any) -> None:
    """Reloading a flow without a collector keeps the drawing and says what happened."""
    async with running(shop) as live:
        await live.press("enter")
        await live.sees("1 Waterfall 7")
        shop.stop()
        await live.press("r")
        await live.sees("▲ No collector at", "1 Waterfall 7", "billing  charge")


async def test_silence_is_said(shop: Any) -> None:
    """A stream that is open but brings nothing is not called live without saying how old the news is."""
    async with running(shop) as live:
        await live.sees("● live")
        shop.quiet = True
        await live.sees("◌ live, last news")
        shop.quiet = False
        await live.sees("● live")


async def test_leaving_while_an_answer_is_on_its_way_is_no_error(shop: Any) -> None:
    """A flow left, or the view quitted, before its answer came takes nothing down with it."""
    async with running(shop) as live:
        await live.press("enter", "escape", "enter", "2", "escape")
        await live.sees("● live")
        await live.press("enter", "q")
        await live.until(lambda: not live.app.is_running)
    assert live.app.return_code == 0
