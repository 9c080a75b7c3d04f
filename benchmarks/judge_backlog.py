"""Part 3 of `make bench-judge`: millions of records behind a Kafka group that is stopped, and what they cost once it goes on.

What catching up costs is compared with a group that keeps up: the same steps, in the same engine, with nothing behind it. In each
step so many records are processed, which is judged, and then committed past, which is judged again.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl

from benchmarks.judge_fates import (
    SECOND,
    Numbers,
    binary,
    commits,
    coverage,
    hash_of,
    ids_of,
    log_states,
    moment,
    subscriptions,
)
from benchmarks.judge_profile import profiled
from benchmarks.judge_store import CountingJudge, Engine, Progress, looking, opened, rest, settle
from hopwatch_collector.judge.loop import Judge

_COVERED_S: Final = 7200
_PARTITIONS: Final = 12
_AT_ONCE: Final = 10_000
"""Records of an insert, and of a step, at most."""
_STEPS: Final = 4
"""Of catching up, at least."""
_USUAL_STEPS: Final = 10
_BACK_S: Final = 3 * 3600
_WITHOUT_S: Final = 10.0
"""For how long is measured, at most, what the same takes without a judge."""
_FED_PER_S: Final = 100
"""Records that still come in, in a part of the measurement."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What came out."""

    cpu_s_per_min: float
    """Of the running judge, while nothing new comes."""
    fed_cpu_s_per_min: float
    """The same while records go on coming, and the witness sees them come."""
    catch_up_ratio: float
    exact: bool


@dataclass(slots=True)
class Group:
    """A consumer group and its topic, of the same name: how many records were sent, and how many were processed and committed past."""

    engine: Engine
    name: str
    sent: int = 0
    read: int = 0
    _ids: list[pl.DataFrame] = field(default_factory=list)
    """What is known of records not yet processed, by insert."""

    def begin(self, at: int) -> None:
        """It subscribes, and tells what it receives."""
        self.engine.put("durable_subscriptions", subscriptions([("kafka", self.name, self.name)], at))
        self.engine.put("coverage", coverage([("kafka", self.name)], at, at + _COVERED_S * SECOND))
        self.stand(at)

    def send(self, sent_at: Numbers, random: np.random.Generator, *, remember: bool = True) -> None:
        """Records are sent at these moments (µs)."""
        numbers = np.arange(self.sent, self.sent + len(sent_at))
        rows = pl.DataFrame(
            {
                "message": ids_of(sent_at, random),
                "trace_id": binary(random.bytes(16 * len(numbers)), 16),
                "partition": pl.Series(numbers % _PARTITIONS).cast(pl.String),
                "offset": numbers // _PARTITIONS,
                "us": sent_at,
            }
        )
        started = moment(pl.col("us"))
        self.engine.put(
            "ledger",
            self._facts(rows, "", "orders", started).with_columns(
                outcome=pl.lit("confirmed"), ended_at=moment(pl.col("us") + 2_000)
            ).drop("us"),
        )  # fmt: skip
        self.sent += len(numbers)
        if remember:
            self._ids.append(rows)

    def process(self, at: int) -> int:
        """The records of the next insert are processed; return how many that are."""
        rows = self._ids.pop(0)
        began, ended = moment(pl.lit(at)), moment(pl.lit(at + 1_000))
        facts = self._facts(rows, self.name, self.name, began).with_columns(
            attempt=pl.lit(1, pl.UInt16),
            hop=pl.col("trace_id").bin.slice(8),
            settle=pl.lit("none"),
            ended_at=ended,
        )
        self.engine.put("ledger", facts.drop("us"))
        return len(rows)

    def commit(self, count: int, at: int) -> None:
        """So many records more are committed past, as a commit and the witness say."""
        self.read += count
        for partition in range(_PARTITIONS):
            offset = np.array([self._upto(self.read, partition)])
            self.engine.put("commits", commits(self.name, self.name, str(partition), offset, np.array([at])))
        self.stand(at)

    def stand(self, at: int) -> None:
        """The witness writes down how the group stands."""
        places = []
        for partition in range(_PARTITIONS):
            end, done = (np.array([self._upto(count, partition)]) for count in (self.sent, self.read))
            places.append(
                log_states(
                    "kafka", self.name, self.name, str(partition), np.array([at]), (0, end, done, done)
                )
            )
        self.engine.put("receiver_states", pl.concat(places))

    def expected(self) -> Counter[str]:
        """What its deliveries are, once all are judged."""
        return +Counter({"settled.committed": self.read, "held": self.sent - self.read})

    def _upto(self, count: int, partition: int) -> int:
        return (count - partition + _PARTITIONS - 1) // _PARTITIONS

    def _facts(self, rows: pl.DataFrame, receiver: str, service: str, started: pl.Expr) -> pl.DataFrame:
        return rows.with_columns(
            receiver=pl.lit(receiver),
            system=pl.lit("kafka"),
            destination=pl.lit(self.name),
            service=pl.lit(service),
            resource=pl.lit(hash_of(service), pl.UInt64),
            started_at=started,
            seen_at=started,
            day=started.dt.date(),
        )


def measure(backlog: int, catch_up: int, seconds: float, *, profile: bool) -> Backlog:
    """All of part 3."""
    with opened() as engine, profiled(on=profile) as counted, looking(engine.store, "kafka"):
        judge = engine.judge()
        judge.settle()
        kept_up = Group(engine, "kept-up")
        kept_up.begin(_now() - _BACK_S * SECOND)
        at_once = max(1, min(_AT_ONCE, catch_up // _STEPS))
        usual = _usual(kept_up, judge, at_once)
        print(
            f"a group that keeps up: {usual:.0f} CPU µs per delivery to see it processed and committed",
            flush=True,
        )
        stopped = Group(engine, "stopped")
        stopped.begin(_now() - _BACK_S * SECOND)
        judge.settle()
        _fill(stopped, backlog, catch_up, at_once)
        cpu = settle(judge)
        print(f"{backlog:,} open deliveries judged with {cpu:.1f} CPU s; waiting for merges", flush=True)
        rest()
        counted.clear()
        per_minute, fed_per_minute = _running(stopped, judge, seconds)
        counted.show(f"the judge running behind a backlog, {seconds:.0f} s each without and with new records")
        counted.clear()
        caught_up = _catch_up(stopped, judge, catch_up)
        counted.show(f"catching up with {stopped.read:,}")
        print(f"catching up: {caught_up:.0f} CPU µs per delivery", flush=True)
        right = [_as_expected(group) for group in (kept_up, stopped)]
    return Backlog(per_minute, fed_per_minute, caught_up / usual, all(right))


def _now() -> int:
    return time.time_ns() // 1000


def _usual(group: Group, judge: Judge, at_once: int) -> float:
    random = np.random.default_rng(3)
    cpu = count = 0.0
    for step in range(_USUAL_STEPS + 1):
        now = _now()
        group.send(now - SECOND - np.arange(at_once)[::-1] * 40, random)
        group.stand(now)
        settle(judge)
        used, judged = _step(group, judge)
        if step:  # before the first one counts, caches fill
            cpu, count = cpu + used, count + judged
    return cpu / count * 1e6


def _fill(group: Group, backlog: int, catch_up: int, at_once: int) -> None:
    """Put the backlog in; it was sent over some hours, evenly."""
    random = np.random.default_rng(4)
    begin = _now() - (_BACK_S + 60) * SECOND
    progress = Progress("records put in")
    for sent_at in _moments(begin, backlog, at_once):
        group.send(sent_at, random, remember=group.sent < catch_up)
        progress.at(group.sent)
    group.stand(_now())


def _moments(begin: int, count: int, at_once: int) -> Iterator[Numbers]:
    for first in range(0, count, at_once):
        numbers = np.arange(first, min(first + at_once, count))
        yield begin + (numbers * (_BACK_S * SECOND / count)).astype(np.int64)


def _running(group: Group, judge: CountingJudge, seconds: float) -> tuple[float, float]:
    """CPU seconds per minute that a running judge adds: while nothing but looks of the witness comes in, and while records do."""
    judge.start()
    try:
        _calm(judge)
        still, judged = _judging(judge, seconds)
        with _fed(group):
            fed, judged_fed = _judging(judge, seconds)
    finally:
        judge.stop()
    # Afterwards: before, the engine may still merge a little.
    without = min(_WITHOUT_S, seconds)
    idle = _cores(without)
    with _fed(group):
        feeding = _cores(without)
    _tell("nothing new", judged, still, idle)
    _tell(f"{_FED_PER_S} records per second come in", judged_fed, fed, feeding)
    return max(0.0, still - idle) * 60, max(0.0, fed - feeding) * 60


def _judging(judge: CountingJudge, seconds: float) -> tuple[float, float]:
    """Cores used, and messages judged per second."""
    before = judge.judged
    cores = _cores(seconds)
    return cores, (judge.judged - before) / seconds


def _tell(what: str, judged: float, cores: float, without: float) -> None:
    print(
        f"behind the backlog, {what}: {judged:,.0f} messages judged per second, {cores * 60:.2f} CPU s per minute "
        f"({without * 60:.2f} of them without the judge)",
        flush=True,
    )


def _calm(judge: CountingJudge) -> None:
    """Wait until the judge has nothing to do, but not for ever."""
    for _ in range(20):
        before = judge.judged
        time.sleep(5.0)
        if judge.judged == before:
            return
    print("the judge does not come to rest", flush=True)


def _cores(seconds: float) -> float:
    began = time.process_time()
    time.sleep(seconds)
    return (time.process_time() - began) / seconds


@contextmanager
def _fed(group: Group) -> Iterator[None]:
    """Records go on coming meanwhile; the witness looks every second."""
    over = threading.Event()

    def feed() -> None:
        random = np.random.default_rng(5)
        while not over.wait(1.0):
            now = _now()
            group.send(now - np.arange(_FED_PER_S)[::-1] * 5_000, random, remember=False)
            group.stand(now)
            group.engine.store.written += 1  # as the store counts what is put in through it

    thread = threading.Thread(target=feed, name="feeder")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _catch_up(group: Group, judge: Judge, catch_up: int) -> float:
    progress, cpu = Progress("records caught up with"), 0.0
    while group.read < catch_up:
        cpu += _step(group, judge)[0]
        progress.at(group.read)
    return cpu / group.read * 1e6


def _step(group: Group, judge: Judge) -> tuple[float, int]:
    """CPU of judging one step of a group, and of how many deliveries."""
    count = group.process(_now())
    cpu = settle(judge)
    group.commit(count, _now())
    return cpu + settle(judge), count


def _as_expected(group: Group) -> bool:
    found, wanted = group.engine.causes(destination=group.name), group.expected()
    # Of those that came last the deadline is not over.
    found["held"] = found.pop("overdue.held", 0) + found.pop("waiting.held", 0)
    if found != wanted:
        print(f"NOT EXACT: of {group.name} {_words(found)}, put in were {_words(wanted)}", flush=True)
    return found == wanted


def _words(causes: Counter[str]) -> str:
    parts: Sequence[str] = [f"{count:,} {cause}" for cause, count in sorted(causes.items())]
    return ", ".join(parts) or "nothing"
