"""The live view driven by keys against the stub of the API; the screen's own text is what is looked at."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot

from hopwatch_collector.api import models
from hopwatch_demo.patience import scale_wait
from hopwatch_tui.app import HopwatchApp
from hopwatch_tui.screens.live import LiveScreen

DEADLINE_S = 60.0


class Driver:
    """The app under test, its keys and its screen."""

    def __init__(self, app: HopwatchApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    def screen(self) -> str:
        """What a person reads."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in line).rstrip() for line in strips)

    def line(self, words: str) -> str:
        """The first line on the screen that holds these words."""
        return next((line for line in self.screen().splitlines() if words in line), "")

    def cursor(self) -> str:
        """The line the cursor is on."""
        return self.line("▌")

    async def press(self, *keys: str) -> None:
        """Type."""
        await self.pilot.press(*keys)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition, at most so long."""
        deadline = time.monotonic() + scale_wait(DEADLINE_S)
        while not condition():
            assert time.monotonic() < deadline, f"it did not happen; the screen:\n{self.screen()}"
            await self.pilot.pause()
            await asyncio.sleep(0)

    async def sees(self, *words: str) -> None:
        """Wait until all these words are on the screen."""
        await self.until(lambda: all(word in self.screen() for word in words))

    async def misses(self, words: str) -> None:
        """Wait until these words are no longer on the screen."""
        await self.until(lambda: words not in self.screen())


@asynccontextmanager
async def running(api: Any, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Driver]:
    """The app, once its first snapshot is shown."""
    app = HopwatchApp(api.url)
    async with app.run_test(size=size) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: app.model.snapshot is not None or app.model.trouble is not None)
        await driver.until(lambda: isinstance(app.screen, LiveScreen))
        yield driver


@pytest.fixture
def shop(api: Any, make: Any) -> Any:
    """The stub knowing one shop flow among others, two hops undelivered, one lag."""
    flow = make.shop_flow()
    api.flows[flow.summary.flow_id] = flow
    for number in (1, 2, 3):
        api.messages[str(number)] = make.message(number)
    api.causes = [
        make.cause(
            cause="overdue.unseen",
            system="nats",
            receiver="mail",
            reason="no sign of delivery yet (no broker evidence)",
        )
    ]
    api.deliveries = [hop for hop in flow.hops if hop.verdict == "overdue"]
    api.show(
        make.live(
            [flow.summary, *(make.flow_summary(number) for number in range(2, 12))],
            undelivered=api.deliveries,
            lag=[make.lag_row()],
            verdicts=[
                models.VerdictCount(verdict="settled", deliveries=1812),
                {"verdict": "stuck", "deliveries": 3},
            ],
        )
    )
    return api
