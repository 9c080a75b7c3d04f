"""Draws the pictures of the terminal view from the demo's own shop: `make pictures`, or python tui/docs/picture.py.

Writes live.svg (the flows) and flow.svg (one of them opened as a sequence of hops) beside itself.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from hopwatch_demo import faults, world
from hopwatch_tui.answers import FlowSummary
from hopwatch_tui.app import HopwatchApp
from hopwatch_tui.screens.flow import FlowScreen

HERE = Path(__file__).parent
SIZE = (112, 30)
LOAD_S = 20.0
"""Seconds the shop works before the picture is taken: long enough for every fault to show."""
PATIENCE_S = 180.0


async def draw(collector: str) -> None:
    """Open the live view on a working shop and save what it shows."""
    app = HopwatchApp(collector)
    async with app.run_test(size=SIZE) as pilot:
        await asyncio.sleep(LOAD_S)
        await until(lambda: len(app.model.flows) > 15)
        await pilot.press("j", "j", "j")
        save(app, "live.svg")
        app.open_flow(max(app.model.flows, key=interest).flow_id)
        await until(lambda: isinstance(app.screen, FlowScreen) and app.screen.flow is not None)
        await pilot.press("2")
        await pilot.pause()
        save(app, "flow.svg")


def interest(flow: FlowSummary) -> tuple[int, int]:
    """A flow is the more worth a picture the more hops it has, best with one of them undelivered."""
    return min(flow.undelivered, 1), flow.hops


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  the app has no event for what a picture needs
            await asyncio.sleep(0.1)


def save(app: HopwatchApp, name: str) -> None:
    """Write the screen as SVG; lines without trailing blanks, as the house keeps its files."""
    svg = app.export_screenshot(title="hopwatch live")
    (HERE / name).write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def say(text: str) -> None:
    """Progress, on stderr."""
    sys.stderr.write(f"picture: {text}\n")


def main() -> None:
    """Bring the shop up on NATS, draw, take it down."""
    plan = world.Plan(brokers=("nats",), faults=faults.choose([], []))
    with world.opened(plan, say) as running:
        running.open_shop()
        asyncio.run(draw(running.collector.api_url))


if __name__ == "__main__":
    main()
