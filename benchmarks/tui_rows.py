"""One view of many rows that change, in a process of its own on a real terminal: what it costs in CPU.

Told on the command line by a `Job`; answers on stdout by a `Result`, one line of JSON.
"""

import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from textual import work
from textual.app import App, ComposeResult
from textual.widgets import DataTable

from hopwatch_tui import format as fmt
from hopwatch_tui.answers import FlowSummary, Live, VerdictCount
from hopwatch_tui.app import HopwatchApp
from hopwatch_tui.report import keys_text

WARM_S = 1.5
"""Seconds before the measurement begins, or as many as are measured where those are fewer."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to show and for how long."""

    view: str
    rows: int
    changing: int
    """Rows that change at each beat."""
    hz: float
    seconds: float

    @property
    def warm_s(self) -> float:
        """Seconds that are not measured."""
        return min(WARM_S, self.seconds)

    @property
    def beats(self) -> int:
        """How many beats there may be in all."""
        return int((self.warm_s + self.seconds) * self.hz) + 2


@dataclass(frozen=True, slots=True)
class Result:
    """What it took, start and warm-up left out."""

    cpu_s: float
    seconds: float
    beats: int
    """How many changes were taken in: fewer than asked for where the view did not come after."""


class Beats:
    """Strikes `hz` times a second; beats that were missed are left out. Reckons CPU and time of those after the warm-up."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.result = Result(0.0, 0.0, 0)

    async def __aiter__(self) -> AsyncIterator[int]:
        clock, cpu = time.monotonic, time.process_time
        began = due = clock()
        warm: tuple[float, float, int] | None = None
        number = 0
        while clock() - began < self._job.warm_s + self._job.seconds:
            due = max(due + 1 / self._job.hz, clock())
            await asyncio.sleep(due - clock())
            if warm is None and clock() - began >= self._job.warm_s:
                warm = cpu(), clock(), number
            yield number
            number += 1
        assert warm is not None
        self.result = Result(cpu() - warm[0], clock() - warm[1], number - 1 - warm[2])


def flows(count: int) -> list[FlowSummary]:
    """Flows as a shop has them, those that began last first."""
    now = datetime.now(UTC)
    names = ("POST /checkout", "publish orders.placed", "GET /cart/{id}", "process payments.captured")
    return [
        FlowSummary(
            flow_id=f"{number:032x}",
            name=names[number % len(names)],
            service=("gateway", "orders", "cart", "billing")[number % 4],
            state="active",
            started_at=now - timedelta(milliseconds=30 * number),
            last_at=now,
            duration_ms=float(number % 900),
            spans=9,
            hops=4,
            undelivered=0,
            errors=0,
            services=("gateway", "orders", "billing"),
            keys={"order_id": f"A-{number:06d}"},
        )
        for number in range(count)
    ]


Change = list[tuple[int, FlowSummary]]
"""Rows that are different now."""


def changes(rows: list[FlowSummary], job: Job) -> Iterator[Change]:
    """For each beat, rows that have gone on: of every five one among the newest hundred, the others anywhere."""
    choice = random.Random(17)
    standing = list(rows)
    while True:
        newest = choice.sample(range(min(100, len(rows))), min(job.changing // 5, len(rows), 100))
        others = choice.sample(range(len(rows)), job.changing - len(newest))
        changed = []
        for index in {*newest, *others}:
            flow = standing[index]
            hops = flow.hops % 97 + 1
            standing[index] = replace(
                flow,
                hops=hops,
                spans=flow.spans + 2,
                duration_ms=flow.duration_ms % 9_000 + 7,
                state="active" if hops % 3 else "undelivered",
                undelivered=0 if hops % 3 else 1,
            )
            changed.append((index, standing[index]))
        yield changed


class Prepared:
    """In the place of the client: snapshots made beforehand, so that only what the view does with them is measured."""

    host = "prepared"

    def __init__(self, job: Job) -> None:
        self.beats = Beats(job)
        self._snapshots: list[Live] = []
        rows = flows(job.rows)
        for change in islice(changes(rows, job), job.beats):
            for index, flow in change:
                rows[index] = flow
            self._snapshots.append(_snapshot(tuple(rows)))
        self.done = asyncio.Event()

    async def live(self, *, window_s: float, silence_s: float) -> AsyncIterator[Live]:
        """Snapshots, one at each beat."""
        async for number in self.beats:
            yield replace(self._snapshots[number], at=datetime.now(UTC))
        self.done.set()
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Nothing is open."""


def _snapshot(rows: tuple[FlowSummary, ...]) -> Live:
    counts = (VerdictCount("settled", 31_207), VerdictCount("waiting", 118), VerdictCount("overdue", 9))
    return Live(None, None, 300.0, rows, counts, (), (), 1200.0, (), (), False)


class Watched(HopwatchApp):
    """The view as it is, fed by what was prepared."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.prepared = Prepared(job)
        self.client = self.prepared  # type: ignore[assignment]

    @property
    def result(self) -> Result:
        """What it took."""
        return self.prepared.beats.result

    def on_mount(self) -> None:
        """Leave when everything was shown. Textual calls the view's own besides."""
        self.leave()

    @work
    async def leave(self) -> None:
        """Wait for the last beat."""
        await self.prepared.done.wait()
        self.exit()


COLUMNS = ("STATE", "FLOW", "SERVICE", "KEYS", "HOPS", "UNDELIV", "ERR", "LATENCY", "ID")


def cells(flow: FlowSummary) -> tuple[str, ...]:
    """What stands in the table's columns."""
    return (
        str(fmt.state(flow.state)),
        flow.name,
        flow.service,
        keys_text(flow.keys),
        fmt.count(flow.hops),
        fmt.count(flow.undelivered),
        fmt.count(flow.errors),
        fmt.duration(flow.duration_ms),
        fmt.short_id(flow.flow_id),
    )


class Plain(App[None]):
    """What one would write otherwise: a DataTable with the same rows, whose cells are updated where they changed."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.beats = Beats(job)
        self._rows = flows(job.rows)
        self._changes = list(islice(changes(self._rows, job), job.beats))

    @property
    def result(self) -> Result:
        """What it took."""
        return self.beats.result

    def compose(self) -> ComposeResult:
        """The table."""
        yield DataTable(cursor_type="row")

    def on_mount(self) -> None:
        """Fill it and begin."""
        table = self.query_one(DataTable)
        for column in COLUMNS:
            table.add_column(column, key=column)
        for flow in self._rows:
            table.add_row(*cells(flow), key=flow.flow_id)
        self.follow()

    @work
    async def follow(self) -> None:
        """Update what changed, at each beat."""
        table = self.query_one(DataTable)
        async for number in self.beats:
            for index, flow in self._changes[number]:
                before, after = cells(self._rows[index]), cells(flow)
                for column, old, new in zip(COLUMNS, before, after, strict=True):
                    if old != new:
                        table.update_cell(flow.flow_id, column, new)
                self._rows[index] = flow
        self.exit()


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    app = Watched(job) if job.view == "hopwatch" else Plain(job)
    # What was prepared is not the view's: its collections of garbage shall not walk over it.
    gc.collect()
    gc.freeze()
    app.run()
    print(json.dumps(asdict(app.result)))


if __name__ == "__main__":
    main()
