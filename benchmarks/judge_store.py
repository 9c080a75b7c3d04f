"""What the parts of `make bench-judge` share: an engine of its own, CPU of this process, progress, and looks of witnesses."""

import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import clickhouse_connect
import polars as pl
from clickhouse_connect.driver.client import Client

from benchmarks.ingest import Collector, wait_quiet
from hopwatch_collector.engine import Store
from hopwatch_collector.engine.session import FrameSession
from hopwatch_collector.judge.loop import Judge, Tick
from hopwatch_collector.query.clocks import ClockReader

_LOOK_EVERY_S: Final = 10.0
_IN_VAIN: Final = 20
"""Looks in a row that may find nothing though there is more."""
_LOOK_COLUMNS: Final = ("day", "system", "broker", "at", "ok", "trouble", "requests", "took_ms")


class CountingJudge(Judge):
    """The collector's, which also says how many messages it judged."""

    judged = 0

    def tick(self) -> Tick:
        """Look once."""
        tick = super().tick()
        self.judged += tick.judged
        return tick


@dataclass(frozen=True, slots=True)
class Engine:
    """An embedded engine with the collector's tables, and beside the store a way to put rows in and to look at them."""

    store: Store
    client: Client
    _session: FrameSession

    def put(self, table: str, rows: pl.DataFrame) -> None:
        """Insert rows by the names of their columns."""
        self._session.write(table, rows)

    def rows(self, statement: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Ask the engine."""
        return self.client.query(statement, parameters=parameters).result_rows

    def causes(self, table: str = "deliveries", destination: str = "") -> Counter[str]:
        """How many deliveries have which cause, as the judge wrote them."""
        found = self.rows(
            f"SELECT cause, sum(sign) FROM {table} WHERE {{d:String}} IN ('', destination) GROUP BY cause",
            d=destination,
        )
        return +Counter({cause: int(count) for cause, count in found})

    def judge(self, now: int | None = None) -> CountingJudge:
        """A judge as the collector's, by the host's clock or at a moment (µs) that stays."""
        offsets = ClockReader(self.store).offsets_around
        clock = time.time if now is None else lambda: now / 1e6
        return CountingJudge(self.store, offsets, clock=clock)


@contextmanager
def opened() -> Iterator[Engine]:
    """An empty engine; nothing is left of it afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="hopwatch-bench-"))
    try:
        store = Store.open(str(directory / "engine"))
        client = clickhouse_connect.get_client(
            dsn=f"chdb:///{directory / 'engine'}", database="hopwatch", tz_mode="aware"
        )
        try:
            yield Engine(store, client, FrameSession(client, "hopwatch_collector.judge"))
        finally:
            client.close()
            store.close()
    finally:
        shutil.rmtree(directory)


class Progress:
    """Says how far something is, no oftener than every two seconds."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = self._printed = time.monotonic()

    def at(self, done: int) -> None:
        """So many are done."""
        now = time.monotonic()
        if now - self._printed > 2:
            self._printed = now
            print(f"{now - self._began:6.1f} s  {done:>12,} {self._what}", flush=True)


def settle(judge: Judge, what: str = "messages judged") -> float:
    """Judge until nothing is left; return CPU seconds of this process. Ends the program where the judge goes round in circles."""
    progress, done, in_vain = Progress(what), 0, 0
    began = time.process_time()
    while True:
        tick = judge.tick()
        done += tick.judged
        progress.at(done)
        if not tick.more:
            return time.process_time() - began
        in_vain = 0 if tick.judged else in_vain + 1
        if in_vain > _IN_VAIN:
            sys.exit(f"STUCK: after {done:,} messages the judge says that there is more, and judges nothing")


def rest() -> float:
    """Wait until the engine's merges have come to rest; return the CPU seconds that took."""
    began = time.process_time()
    wait_quiet(Collector(os.getpid(), 0, ""))
    return time.process_time() - began


@contextmanager
def looking(store: Store, *systems: str) -> Iterator[None]:
    """Brokers are looked at every ten seconds meanwhile, as by witnesses that find nothing new."""
    over = threading.Event()

    def look() -> None:
        while True:
            at = datetime.now(UTC)
            store.write(
                "watches",
                _LOOK_COLUMNS,
                [[at.date(), system, f"{system}:1", at, 1, "", 3, 2] for system in systems],
            )
            if over.wait(_LOOK_EVERY_S):
                return

    thread = threading.Thread(target=look, name="witness")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
