"""The live view's state, apart from any screen."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from hopwatch_demo.patience import scale_wait
from hopwatch_tui import feed
from hopwatch_tui.answers import Live, parse
from hopwatch_tui.client import ApiError, Unreachable
from hopwatch_tui.model import Connection, Cursor, Filter, LiveModel


def snapshot(make: Any, *flows: int) -> Live:
    """A parsed snapshot with flows of these numbers."""
    live = make.live([make.flow_summary(number) for number in flows])
    return parse(Live, json.loads(live.model_dump_json()))


def test_the_core_imports_no_screen() -> None:
    """Client, model, tables, drawings, reports and commands work without textual."""
    modules = "actions,answers,client,commands,drawings,feed,format,hops,model,report,tables,text"
    code = f"import sys; from hopwatch_tui import {modules}; sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_collector_is_not_imported() -> None:
    """The terminal view knows the collector over HTTP only."""
    code = "import sys, hopwatch_tui.app; sys.exit(any(name.startswith('hopwatch_collector') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_paused_it_keeps_what_is_shown(make: Any) -> None:
    """While paused the screen stands still; going on shows the newest snapshot, not all that were missed."""
    model = LiveModel()
    model.receive(snapshot(make, 1))
    model.toggle_pause()
    assert not model.receive(snapshot(make, 2))
    assert not model.receive(snapshot(make, 3))
    assert model.skipped == 2
    assert [flow.flow_id for flow in model.flows] == [f"{1:032x}"]
    model.toggle_pause()
    assert [flow.flow_id for flow in model.flows] == [f"{3:032x}"]


def test_a_lost_connection_keeps_what_is_shown(make: Any) -> None:
    """Losing the connection changes the state, not the rows; a snapshot brings it back."""
    model = LiveModel()
    model.receive(snapshot(make, 1))
    model.lose(Unreachable("gone", "why"), 2.0)
    assert model.connection is Connection.LOST
    assert len(model.flows) == 1
    model.receive(snapshot(make, 1))
    assert (model.connection, model.trouble) == (Connection.LIVE, None)


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("", True),
        ("ORDERS", True),
        ("placed orders", True),
        ("orders missing", False),
        ("-billing", False),
        ("orders -missing", True),
        ("-", False),
    ],
)
def test_filters(text: str, stays: bool) -> None:
    """All words must be there, in any order and case; words after a minus must not."""
    assert Filter(text).matches("Orders.Placed billing") is stays


def cursor(items: Sequence[str]) -> Cursor[str]:
    """A cursor over strings that are their own keys."""
    made = Cursor[str](lambda item: item)
    made.replace(items)
    return made


def test_the_cursor_keeps_to_its_item() -> None:
    """Rows that come above move the cursor with its item."""
    at = cursor("abc")
    at.move_to(1)
    at.replace("xyabc")
    assert (at.current, at.index) == ("b", 3)


def test_an_unmoved_cursor_stays_at_the_top() -> None:
    """Until somebody moves, the cursor is on what is newest; going to the top brings that back."""
    at = cursor("abc")
    at.replace("xabc")
    assert at.current == "x"
    at.move_to(2)
    at.follow()
    at.replace("yxabc")
    assert at.current == "y"


def test_a_cursor_whose_item_is_gone_stays_near() -> None:
    """Where the item vanished the cursor stays at that row, or at the last one; an empty list has none."""
    at = cursor("abcd")
    at.move_to(3)
    at.replace("ab")
    assert at.current == "b"
    at.replace("")
    assert at.current is None
    at.move_to(5)
    at.replace("q")
    assert at.current == "q"


class Scripted:
    """A source that plays one connection after another."""

    def __init__(self, *connections: list[Live | ApiError]) -> None:
        self.connections = list(connections)

    async def live(self, *, window_s: float, silence_s: float) -> AsyncIterator[Live | ApiError]:
        """The next connection's events, then its end."""
        for event in self.connections.pop(0) if self.connections else []:
            yield event
        raise Unreachable("gone", "the script says so")


async def collect(source: Scripted, stop_after: int) -> list[feed.Event]:
    """What is delivered, waiting for no retry."""
    events: list[feed.Event] = []
    wake, enough = asyncio.Event(), asyncio.Event()

    def deliver(event: feed.Event) -> None:
        events.append(event)
        if len(events) >= stop_after:
            enough.set()
        asyncio.get_running_loop().call_soon(wake.set)

    task = asyncio.create_task(feed.follow(source, 300, deliver, wake))
    await asyncio.wait_for(enough.wait(), scale_wait(20))
    task.cancel()
    return events


async def test_each_loss_in_a_row_waits_longer(make: Any) -> None:
    """The wait doubles from half a second to ten."""
    events = await collect(Scripted(), 7)
    waits = [event.retry_in_s for event in events if isinstance(event, feed.Lost)]
    assert waits[:7] == [0.5, 1, 2, 4, 8, 10, 10]


async def test_a_snapshot_makes_the_next_wait_short_again(make: Any) -> None:
    """After something came, the first wait is half a second again."""
    events = await collect(Scripted([], [], [snapshot(make, 1)]), 4)
    assert [event.retry_in_s for event in events[:4] if isinstance(event, feed.Lost)] == [0.5, 1, 0.5]
