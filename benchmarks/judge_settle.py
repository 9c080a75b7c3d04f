"""Parts 1 and 2 of `make bench-judge`: an hour of deliveries of all fates judged at once, then a few that change at a time."""

import statistics
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

import polars as pl

from benchmarks.judge_fates import DELIVERIES_PER_MESSAGE, SECOND, Hour, Surroundings, moment
from benchmarks.judge_profile import profiled
from benchmarks.judge_store import Engine, Progress, opened, rest, settle
from hopwatch_collector.judge.loop import Judge

_CHANGED: Final = 100
_TICKS: Final = 10


@dataclass(frozen=True, slots=True)
class Settled:
    """What came out."""

    deliveries_per_cpu_s: float
    tick_ms: float
    """Of messages sent lately, which lie side by side."""
    scattered_tick_ms: float
    """Of as many from all of the hour."""
    exact: bool


def measure(deliveries: int, *, minted: bool, profile: bool) -> Settled:
    """Both parts."""
    now = time.time_ns() // 1000
    hour = Hour(max(100, round(deliveries / DELIVERIES_PER_MESSAGE)), now - 3660 * SECOND, minted=minted)
    with opened() as engine, profiled(on=profile) as counted:
        judge = engine.judge(now)
        _fill(engine, judge, hour, now)
        counted.clear()
        expected = hour.causes()
        total = expected.total()
        cpu = settle(judge)
        merging = rest()
        counted.show("judging an hour")
        print(
            f"{total:,} deliveries judged with {cpu:.1f} CPU s, merges after that {merging:.1f} CPU s",
            flush=True,
        )
        exact = _as_expected(engine, expected)
        medians = []
        for which, order in (("of lately", "first_at DESC"), ("from all of the hour", "cityHash64(message)")):
            counted.clear()
            # Before the first one counts, caches fill.
            ticks = [_tick(engine, judge, order) for _ in range(_TICKS + 1)][1:]
            counted.show(f"{_TICKS + 1} ticks of {_CHANGED} changed messages {which}")
            print(
                f"CPU ms of ticks with {_CHANGED} changed messages {which}: {' '.join(f'{tick:.0f}' for tick in ticks)}",
                flush=True,
            )
            medians.append(statistics.median(ticks))
        exact &= _as_expected(engine, expected)
    lately, scattered = medians
    return Settled(total / (cpu + merging), lately, scattered, exact)


def _fill(engine: Engine, judge: Judge, hour: Hour, now: int) -> None:
    """Put everything in; the judge knows of brokers and subscriptions before the first message comes, as one that has run for long."""
    for table, rows in Surroundings(hour, now).tables():
        engine.put(table, rows)
    judge.settle()
    progress, done, facts = Progress("messages put in"), 0, 0
    for count, rows in hour.facts():
        engine.put("ledger", rows)
        done, facts = done + count, facts + len(rows)
        progress.at(done)
    print(f"{done:,} messages with {facts:,} facts are in; waiting for merges", flush=True)
    rest()


def _as_expected(engine: Engine, expected: Counter[str]) -> bool:
    """Whether both tables count what was put in, by cause."""
    open_or_undelivered = Counter(
        {cause: count for cause, count in expected.items() if not cause.startswith("settled.")}
    )
    right = True
    for table, wanted in (("deliveries", expected), ("attention", open_or_undelivered)):
        found = engine.causes(table)
        for cause in sorted({*found, *wanted}):
            if found[cause] != wanted[cause]:
                right = False
                print(
                    f"NOT EXACT: {table} counts {found[cause]:,} of {cause}, put in were {wanted[cause]:,}",
                    flush=True,
                )
    return right


def _tick(engine: Engine, judge: Judge, order: str) -> float:
    """CPU milliseconds of judging some messages of which a receiver tells that it got them once more."""
    engine.put("ledger", _once_more(engine, order))
    began = time.process_time()
    tick = judge.tick()
    took = time.process_time() - began
    if tick.judged != _CHANGED or tick.changed != 2 * _CHANGED:
        print(
            f"NOT AS MEANT: the tick judged {tick.judged} messages and wrote {tick.changed} rows", flush=True
        )
    return took * 1e3


def _once_more(engine: Engine, order: str) -> pl.DataFrame:
    """A further attempt for each of some messages that had but one, those that come first in an order."""
    found = engine.client.query_arrow(
        "SELECT message, receiver, if(trace_id = toFixedString('', 16), flow, trace_id) AS trace_id, "
        "toUnixTimestamp64Micro(received_at) AS us FROM deliveries FINAL "
        "WHERE sign = 1 AND cause = 'settled.ack' AND attempts = 1 AND system = 'nats' AND destination = 'orders.made' "
        f"ORDER BY {order} LIMIT {_CHANGED}"
    )
    rows = pl.DataFrame(found)
    at = moment(pl.col("us"))
    return rows.select(
        pl.col("message", "receiver", "trace_id"),
        attempt=pl.lit(2, pl.UInt16),
        hop=pl.col("trace_id").cast(pl.Binary).bin.slice(0, 8),
        started_at=at,
        ended_at=at,
        seen_at=at,
        day=at.dt.date(),
        system=pl.lit("nats"),
        settle=pl.lit("ack"),
    )
