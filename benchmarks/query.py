"""`make bench-query`: how long a flow, a message and a business key take to be found among so many spans.

Asks hopwatch's store, by the functions that the API's routes call, and beside it the same spans in the table that the
OpenTelemetry Collector's ClickHouse exporter makes, in the same embedded engine, as its users do. Spans lie over a day; what
is asked for is spread over it. Both are asked in turn, and every answer is compared with what was put in: a wrong one ends the
program with 1. Ours are judged deliveries, theirs are spans. CPU is that of the whole process, so nothing else runs in it:
merges are waited for, and the collector's upkeep does not take place. Wall times mean little on a busy machine.

Some messages are received by nobody, and of some the handler fails. What is judged is all judged before anything is asked; then
lists, counts and rates of deliveries are asked for too, over an hour and a day, which the exporter's table has no answer to.
"""

import argparse
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.ingest import Collector, measure, wait_quiet
from benchmarks.query_ledger import PutIn, judge, subscribe
from benchmarks.query_ledger import measure as measure_ledger
from benchmarks.query_sides import Hopwatch, Kind, OtelTraces, Question, Side, question
from benchmarks.traffic import Outcome, Shape, Story, bodies
from hopwatch_collector.engine import Store
from hopwatch_collector.query import Window

_LASTING_S = 86_400.0
_PER_FLOW = 4
_BATCH_SPANS = 20_000
_TROUBLED_EVERY = 20
"""Of so many pairs of requests one is about messages that nobody receives, one about such that their handler fails."""
_WARM = 3
"""Stories asked for before any counts: caches fill. As many as are counted, where those are fewer."""
_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}


@dataclass(slots=True)
class Times:
    """What answers to one kind of question took."""

    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def wall(self, percent: float) -> float:
        """A percentile of wall time, in ms."""
        return float(np.percentile(self.wall_ms, percent))

    def cpu(self, percent: float) -> float:
        """A percentile of CPU time, in ms."""
        return float(np.percentile(self.cpu_ms, percent))


Table = dict[Kind, dict[str, Times]]
"""Kind of question → side → times."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", type=_count, default=1_000_000, help="such as 500k, 20M (default 1M)")
    parser.add_argument(
        "--ids",
        type=int,
        default=60,
        help="different ids asked for of each kind (default 60; for a steady p99 take 300)",
    )
    parser.add_argument("--per-request", type=int, default=512)
    parser.add_argument(
        "--indexes",
        choices=("bloom", "text"),
        default="bloom",
        help="those of the exporter's table: text, as its newest versions make on ClickHouse 26.2 and later",
    )
    options = parser.parse_args()
    print(
        f"python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    directory = Path(tempfile.mkdtemp(prefix="hopwatch-bench-"))
    try:
        print(run(directory, options.spans, options.ids, options.per_request, options.indexes))
    finally:
        shutil.rmtree(directory)


def run(directory: Path, spans: int, ids: int, per_request: int = 512, indexes: str = "bloom") -> str:
    """One whole measurement; returns its line of figures. Ends the program with 1 where an answer is wrong."""
    store = Store.open(str(directory / "engine"))
    otel = OtelTraces(f"chdb:///{directory / 'engine'}", indexes)
    try:
        sides: list[Side] = [Hopwatch(store), otel]
        print(f"engine {store.version}; both sides are filled", flush=True)
        now = datetime.now(UTC)
        window = Window(now - timedelta(seconds=_LASTING_S + 60), now + timedelta(seconds=60))
        subscribe(store, window.since)
        stories, put_in = fill(sides, spans, per_request, int(now.timestamp() * 1e9))
        warm = min(_WARM, ids)
        if len(stories) < ids + warm:
            sys.exit(f"too few spans for {ids} ids: at least {(ids + warm) * 2 * per_request:,} are needed")
        print(f"CPU of judging: {judge(store):.1f} s; waiting for merges", flush=True)
        wait_quiet(Collector(os.getpid(), 0, ""))
        sizes = {side.name: _bytes_per_span(side, directory, spans) for side in sides}
        table = ask(sides, spread(stories, ids + warm), window, warm)
        ledger, exact = measure_ledger(store, put_in)
    finally:
        otel.close()
        store.close()
    show(table)
    if not exact:
        sys.exit("WRONG: not every count is what was put in")
    return line(table, sizes, spans, ledger)


def fill(sides: Sequence[Side], spans: int, per_request: int, now_ns: int) -> tuple[list[Story], PutIn]:
    """Put the same spans into all sides; return stories of what was delivered, in order of time, and counts of everything."""
    stories: list[Story] = []
    put_in = PutIn()
    cpu = dict.fromkeys((side.name for side in sides), 0.0)
    began = printed = time.monotonic()
    done = 0
    for payload, count, told in _batches(spans, per_request, now_ns, put_in):
        for side in sides:
            before = time.process_time()
            side.insert(payload, f"batch-{done}")
            cpu[side.name] += time.process_time() - before
        done += count
        stories += told
        if time.monotonic() - printed > 2 or done >= spans:
            printed = time.monotonic()
            print(f"{printed - began:6.1f} s  {done:>10,} spans in", flush=True)
    words = ", ".join(f"{name} {used:.1f} s" for name, used in cpu.items())
    print(f"CPU of inserts, some merges in it: {words}", flush=True)
    return stories, put_in


def _batches(
    spans: int, per_request: int, now_ns: int, put_in: PutIn
) -> Iterator[tuple[bytes, int, list[Story]]]:
    """Requests put together, as the pump does; each is counted."""
    shape = Shape(_LASTING_S, _PER_FLOW, keyed=True, minted=True, troubled_every=_TROUBLED_EVERY)
    parts: list[bytes] = []
    told: list[Story] = []
    count = 0
    for number, body in enumerate(bodies(spans, per_request, now_ns, shape=shape)):
        parts.append(body.data)
        count += body.spans
        put_in.add(body)
        if number % 2 and body.outcome is Outcome.SETTLED:
            told.append(body.story)
        if count >= _BATCH_SPANS:
            yield b"".join(parts), count, told
            parts, told, count = [], [], 0
    if parts:
        yield b"".join(parts), count, told


def _bytes_per_span(side: Side, directory: Path, spans: int) -> float:
    count, size = measure(directory, side.database, side.table)
    if count != spans:
        sys.exit(f"NOT EXACT: {spans} spans put in, {count} in {side.name}")
    return size / spans


def spread(stories: list[Story], count: int) -> list[Story]:
    """So many of them, evenly over time."""
    return [stories[int(place)] for place in np.linspace(0, len(stories) - 1, count)]


def ask(sides: Sequence[Side], stories: list[Story], window: Window, warm: int) -> Table:
    """Every kind of question about every story, of both sides in turn; those about the first `warm` are not counted."""
    table: Table = {kind: {side.name: Times() for side in sides} for kind in Kind}
    # Not in order of time: neighbours have caches in common.
    order = np.random.default_rng(2).permutation(len(stories))
    began = printed = time.monotonic()
    for number, place in enumerate(order):
        for kind in Kind:
            asked = question(kind, stories[place], number)
            for side in sides if number % 2 else sides[::-1]:
                wall, cpu = _ask_one(side, asked, window)
                if number >= warm:
                    table[kind][side.name].wall_ms.append(wall)
                    table[kind][side.name].cpu_ms.append(cpu)
        if time.monotonic() - printed > 2:
            printed = time.monotonic()
            print(f"{printed - began:6.1f} s  {number + 1} of {len(order)} stories asked for", flush=True)
    return table


def _ask_one(side: Side, asked: Question, window: Window) -> tuple[float, float]:
    """Wall and CPU milliseconds of one answer, which has to be right."""
    cpu, wall = time.process_time(), time.perf_counter()
    answer = side.ask(asked, window)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found = side.read(answer)
    spans_right = found.spans is None or found.spans == asked.spans
    if not (asked.must <= found.ids <= asked.may and spans_right and found.settled):
        sys.exit(f"WRONG: {side.name} answers {asked} with {found}")
    return wall * 1e3, cpu * 1e3


def show(table: Table) -> None:
    """A table for people."""
    print(f"\n{'ms':<18}{'wall p50':>10}{'wall p99':>10}{'CPU p50':>10}{'CPU p99':>10}")
    for kind, sides in table.items():
        for name, times in sides.items():
            figures = (times.wall(50), times.wall(99), times.cpu(50), times.cpu(99))
            print(f"{f'{kind} {name}':<18}" + "".join(f"{figure:>10.1f}" for figure in figures))


def line(table: Table, sizes: dict[str, float], spans: int, ledger: Mapping[str, float]) -> str:
    """One line for machines; `vs_otel_…`: how many times as much CPU the exporter's table takes."""
    words = [
        f"spans={spans}",
        f"bytes_per_span={sizes['hopwatch']:.1f}",
        f"otel_bytes_per_span={sizes['otel']:.1f}",
    ]
    for kind, sides in table.items():
        ours, theirs = sides["hopwatch"], sides["otel"]
        words += [
            f"{kind}_p50_ms={ours.wall(50):.1f}",
            f"{kind}_p99_ms={ours.wall(99):.1f}",
            f"{kind}_cpu_ms={ours.cpu(50):.1f}",
            f"vs_otel_{kind}={theirs.cpu(50) / ours.cpu(50):.2f}",
        ]
    words += [f"{name}={figure:.1f}" for name, figure in ledger.items()]
    return " ".join([*words, "exact=yes"])


def _count(text: str) -> int:
    found = re.fullmatch(r"(\d+)([kM]?)", text)
    if found is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of spans such as 500000, 500k or 20M")
    return int(found[1]) * _UNITS[found[2]]


if __name__ == "__main__":
    main()
