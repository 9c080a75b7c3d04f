"""What drawing the live view costs, and that nothing kept for speed outlives what it was made from."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from textual.pilot import Pilot

from hopwatch_demo.patience import scale_wait
from hopwatch_tui.answers import Live, parse
from hopwatch_tui.app import HopwatchApp
from hopwatch_tui.format import Tone
from hopwatch_tui.model import LiveModel
from hopwatch_tui.screens.live import LiveScreen, status_line
from hopwatch_tui.tables import FLOWS, Line
from hopwatch_tui.themes import LIGHT
from hopwatch_tui.widgets.lines import Lines

WITHIN_S = scale_wait(60.0)


def snapshot(make: Any, count: int, **fields: Any) -> Live:
    """A parsed snapshot of so many flows."""
    live = make.live([make.flow_summary(number) for number in range(1, count + 1)], **fields)
    return parse(Live, json.loads(live.model_dump_json()))


async def until(pilot: Pilot[None], condition: Callable[[], Any]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await pilot.pause()
            await asyncio.sleep(0)


def flows_list(app: HopwatchApp) -> Lines[Any]:
    """The list of flows, once the live screen is there."""
    assert isinstance(app.screen, LiveScreen)
    return app.screen.list_of(app.screen.view)


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The flows whose lines were formatted, in order."""
    seen: list[str] = []
    table = type(FLOWS)
    line = table.line

    def noting(self: Any, item: Any, width: int, now: Any) -> Line:
        if self is FLOWS:
            seen.append(item.flow_id)
        return line(self, item, width, now)

    monkeypatch.setattr(table, "line", noting)
    return seen


async def test_a_line_is_formatted_once_per_snapshot_and_only_in_sight(
    api: Any, make: Any, painted: list[str]
) -> None:
    """However many flows there are: comparing with what stands there and drawing share the work."""
    api.quiet = True
    app = HopwatchApp(api.url)
    async with app.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        app._deliver(snapshot(make, 5_000))
        await until(pilot, lambda: len(flows_list(app).items) == 5_000)
        await pilot.pause()
        height = flows_list(app).size.height
        painted.clear()
        app._deliver(snapshot(make, 5_000, at=make.now + timedelta(seconds=60)))
        await until(pilot, lambda: flows_list(app).now == make.now + timedelta(seconds=60))
        await until(pilot, lambda: "1m01s" in text_of(app))
        assert 0 < len(painted) <= height
        assert len(set(painted)) == len(painted)


def text_of(app: HopwatchApp) -> str:
    """What a person reads."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in line) for line in strips)


def background(app: HopwatchApp, y: int) -> Any:
    """The background at the end of a line of the list of flows."""
    lines = flows_list(app)
    segments = [segment for segment in lines.render_line(y) if segment.text.strip() or segment.style]
    style = segments[-1].style
    return style.bgcolor if style else None


async def test_another_theme_and_the_focus_change_what_is_drawn(api: Any, make: Any) -> None:
    """Colours that are kept are dropped with the theme or the focus they belong to."""
    api.show(make.live([make.flow_summary(number) for number in (1, 2)]))
    app = HopwatchApp(api.url)
    async with app.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, LiveScreen) and len(flows_list(app).items) == 2)
        focused, dark = background(app, 0), background(app, 1)
        app.screen.set_focus(None)
        await until(pilot, lambda: background(app, 0) != focused)
        app.theme = LIGHT.name
        await until(pilot, lambda: background(app, 1) != dark)


async def test_another_width_is_drawn_at_once(api: Any, make: Any) -> None:
    """Lines that were formatted for a narrower terminal do not stay on a wider one, without any news."""
    api.quiet = True
    app = HopwatchApp(api.url)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        app._deliver(snapshot(make, 3))
        await until(pilot, lambda: "POST /orders/1" in text_of(app))
        assert "order_id=1" not in text_of(app)
        await pilot.resize_terminal(140, 30)
        await until(pilot, lambda: "order_id=1" in text_of(app))


def test_neighbours_of_one_tone_are_one_piece(make: Any) -> None:
    """What a line costs to draw goes by its pieces; its text and width are those of its columns, two cells apart."""
    [flow] = snapshot(make, 1).flows
    line = FLOWS.line(flow, 120, make.now)
    assert sum(len(text) for text, _ in line) == 120
    assert all(tone is not after for (_, tone), (_, after) in pairwise(line))
    assert "POST /orders/1 " in line[1][0]
    [heading] = FLOWS.heading(120)
    assert [tone for _, tone in heading] == [Tone.DIM]


def test_flows_are_put_in_order_once_per_snapshot(make: Any) -> None:
    """Asked again they are the same list; another snapshot, also one held while paused, makes another."""
    model = LiveModel()
    assert not model.flows
    model.receive(snapshot(make, 3))
    first = model.flows
    assert model.flows is first
    model.toggle_pause()
    model.receive(snapshot(make, 4))
    assert model.flows is first
    model.toggle_pause()
    assert len(model.flows) == 4


@pytest.mark.parametrize(("behind", "said"), [(2, False), (12, True)])
def test_verdicts_that_are_old_are_said_to_be(make: Any, behind: int, said: bool) -> None:
    """Flows may be newer than verdicts; from five seconds on the header says by how much."""
    model = LiveModel()
    model.receive(snapshot(make, 1, judged_at=make.ago(behind)))
    words = "".join(text for text, _ in status_line(model, "collector"))
    assert (f"verdicts of {behind}s ago" in words) is said
