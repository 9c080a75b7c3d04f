"""Judged bit by bit is judged as a whole: whatever comes when, and wherever it is interrupted."""

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest
from evidence_support import looked, stood
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ledger_support import (
    T0,
    S,
    at,
    committed,
    empty,
    in_kafka,
    judged,
    moved,
    opened,
    processed,
    sent,
    stored_row,
    subscribed,
    take,
)
from structlog.testing import capture_logs

from hopwatch_collector.engine import Store
from hopwatch_collector.errors import EngineUnavailable
from hopwatch_collector.judge import changes, ledger, loop
from hopwatch_collector.judge.frames import shaped
from hopwatch_collector.judge.loop import Judge, Session

SETTLES = ["ack", "nack", "requeue", "reject", "auto", "none", None]


class Crash(EngineUnavailable):
    """The process ends here."""


@dataclass
class Interrupted:
    """A session that ends the process before or after its nth write."""

    session: Session
    writes: int
    after: bool

    def pick(self, messages: Sequence[bytes]) -> None:
        self.session.pick(messages)

    def frame(self, name: str, parameters: Mapping[str, Any], **texts: str) -> pl.DataFrame:
        return self.session.frame(name, parameters, **texts)

    def look(self) -> None:
        self.session.look()

    def in_use(self, table: str) -> bool:
        return self.session.in_use(table)

    def stand(self, table: str) -> Hashable:
        return self.session.stand(table)

    def write(self, table: str, rows: pl.DataFrame) -> None:
        self.writes -= 1
        if self.writes == 0 and not self.after:
            raise Crash
        self.session.write(table, rows)
        if self.writes == 0:
            raise Crash


class Fragile:
    """A store whose judge is interrupted once."""

    def __init__(self, store: Store, writes: int, *, after: bool) -> None:
        self._store = store
        self._writes = writes
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def judging(self) -> Iterator[Any]:
        with self._store.judging() as session:
            one = Interrupted(session, self._writes, self._after)
            try:
                yield one
            finally:
                self._writes = one.writes


class Clock:
    """Seconds since 1970, by the story."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return T0.timestamp() + self.seconds


def judge(store: Any, clock: Clock) -> Judge:
    """A judge of a new process."""
    return Judge(store, lambda _: {}, clock=clock)


def written(store: Store) -> list[dict[str, Any]]:
    """The current deliveries, as a query would return them."""
    with store.judging() as session:
        session.pick(
            [row[0] for row in store._writer.query("SELECT DISTINCT message FROM ledger").result_rows]
        )
        found = ledger.live(shaped(session.frame("rows_of_messages", {}), ledger.SIGNED))
    since = pl.when(pl.col("verdict") == "settled").then("since").otherwise(0)
    kept = found.drop("tenant", "version", "day").with_columns(settled_at=since)
    told = [stored_row(row) for row in kept.iter_rows(named=True)]
    return sorted(told, key=lambda row: (row["message"], row["receiver"]))


def whole(store: Store, now: float) -> list[dict[str, Any]]:
    """The same, judged at once from nothing but the evidence."""
    rows = [{name: value for name, value in row.items() if name != "day"} for row in judged(store, now=now)]
    return sorted(rows, key=lambda row: (row["message"], row["receiver"]))


def differences(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[Any]:
    """What differs, pair by pair."""
    pairs = {(row["message"], row["receiver"]): row for row in found}
    others = {(row["message"], row["receiver"]): row for row in wanted}
    return [
        (
            key[1],
            {
                name: (value, others.get(key, {}).get(name))
                for name, value in pairs.get(key, {"there": False}).items()
                if others.get(key, {}).get(name) != value
            },
        )
        for key in sorted({*pairs, *others})
        if pairs.get(key) != others.get(key)
    ]


def agreed(store: Store) -> None:
    """Counts beside the rows are what counting them gives, and `attention` has what is not settled, no more and no less."""
    query = store._writer.query
    names = "minute, system, destination, receiver, producer, consumer, verdict, cause"
    counts = f"SELECT {names}, sum(sign) AS n FROM deliveries GROUP BY {names} HAVING n != 0 ORDER BY ALL"
    kept = query(f"{counts} SETTINGS force_optimize_projection = 1").result_rows
    counted = query(
        f"SELECT {names}, toInt64(count()) FROM deliveries FINAL WHERE sign = 1 GROUP BY {names} ORDER BY ALL"
    )
    assert kept == counted.result_rows
    columns = (
        "message, receiver, version, verdict, cause, open, first_at, since, next_at, partition, offset, flow"
    )
    wanted = query(
        f"SELECT {columns} FROM deliveries FINAL WHERE sign = 1 AND verdict != 'settled' ORDER BY ALL"
    ).result_rows
    found = query(f"SELECT {columns}, sum(sign) AS n FROM attention GROUP BY ALL HAVING n != 0 ORDER BY ALL")
    assert [row[:-1] for row in found.result_rows] == wanted
    assert {row[-1] for row in found.result_rows} <= {1}


Step = Any


def told(draw: st.DrawFn) -> list[Step]:
    """What services tell of a few messages."""
    steps: list[Step] = [subscribed("orders", "billing", "kafka", start=-5.0)]
    for number in range(draw(st.integers(1, 3))):
        system = draw(st.sampled_from(["kafka", "rabbitmq", "nats"]))
        start = float(draw(st.integers(0, 20)))
        position = in_kafka(number) if system == "kafka" else {}
        to = "orders" if system == "kafka" else f"{system}.{number}"
        outcome = draw(st.sampled_from(["confirmed", "confirmed", "sent", "returned", "unconfirmed"]))
        send = sent(to, system, start=start, outcome=outcome, **position)
        steps.append(send)
        if draw(st.booleans()):
            steps.append(subscribed(to, "billing", system, start=start - 1, durable=draw(st.booleans())))
        if draw(st.booleans()):
            process = processed(
                send, "billing", start=start + 1, settle=draw(st.sampled_from(SETTLES)),
                error=draw(st.sampled_from(["", "", "boom"])),
            )  # fmt: skip
            steps += [opened(process)] if draw(st.booleans()) else []
            steps += [process] if draw(st.booleans()) else []
    return steps


def shown(draw: st.DrawFn) -> list[Step]:
    """What brokers show, and how groups move."""
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, 4))):
        at_s, kind = (
            draw(st.integers(0, 40)),
            draw(st.sampled_from(["commit", "log", "queue", "poll", "seek"])),
        )
        if kind == "commit":
            steps.append(committed("orders", draw(st.integers(0, 4)), start=float(at_s)))
        elif kind == "seek":
            steps.append(moved(draw(st.integers(0, 3)), draw(st.integers(0, 3)), start=float(at_s)))
        elif kind == "log":
            read = draw(st.integers(0, 4))
            place = {"destination": "orders", "partition": "0"}
            steps.append(State("kafka", at_s, {**place, "first": 0, "end": 5, "next": read, "done": read}))
        elif kind == "queue":
            waiting = draw(st.integers(0, 2))
            counts = {"published": 2, "handed": 2 - waiting, "acked": 2 - waiting}
            steps.append(State("rabbitmq", at_s, {"first": 0, "waiting": waiting, "in_hand": 0, **counts}))
        else:
            steps.append(State(draw(st.sampled_from(["kafka", "rabbitmq", "nats"])), at_s, None))
    return steps


@dataclass(frozen=True)
class State:
    """How the receiver billing stood at its broker; None: only that the broker was asked."""

    system: str
    at_s: int
    stands: dict[str, Any] | None

    def tell(self, store: Store) -> None:
        """Write it down as a watch would."""
        if self.stands is not None:
            stood(store, self.system, "billing", self.at_s, **self.stands)
        looked(store, self.system, self.at_s)


@st.composite
def stories(draw: st.DrawFn, *, brokers: bool) -> list[Step]:
    """What is told, one thing after the other in any order, with time passing in between."""
    steps = draw(st.permutations(told(draw) + (shown(draw) if brokers else [])))
    passing = st.lists(st.sampled_from([0.0, 1.0, 5.0, 20.0, 40.0]), min_size=len(steps), max_size=len(steps))
    return [one for pair in zip(steps, draw(passing), strict=True) for one in pair]


def live_through(store: Store, story: list[Step], crash_at: int, after: bool, new_process: set[int]) -> float:
    """Tell a story and judge it bit by bit, interrupted once and begun anew now and then; return when it ended."""
    empty(store)
    clock = Clock()
    fragile: Any = Fragile(store, crash_at, after=after)
    one = judge(fragile, clock)
    for number, step in enumerate(story):
        if isinstance(step, float):
            clock.seconds += step
            continue
        if isinstance(step, S):
            take(store, step)
        else:
            step.tell(store)
        one = settled(judge(fragile, clock) if number in new_process else one, fragile, clock)
    # A judge of declarations and polls looks again after a while.
    clock.seconds += 60.0
    settled(one, fragile, clock)
    return clock.seconds


def settled(one: Judge, store: Any, clock: Clock) -> Judge:
    """Judge all there is; after a crash, another process does."""
    try:
        one.settle()
    except Crash:
        one = judge(store, clock)
        one.settle()
    return one


interruptions = {
    "crash_at": st.integers(0, 12),
    "after": st.booleans(),
    "new_process": st.sets(st.integers(0, 20)),
}
examples = settings(
    max_examples=8,
    deadline=None,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@examples
@given(story=stories(brokers=False), **interruptions)
def test_bit_by_bit_is_as_a_whole(
    store: Store, story: list[Step], crash_at: int, after: bool, new_process: set[int]
) -> None:
    """The same rows, counts and list of what is open, though the judge was interrupted and begun anew in between."""
    ended = live_through(store, story, crash_at, after, new_process)
    assert differences(written(store), whole(store, ended)) == []
    agreed(store)


@examples
@given(story=stories(brokers=True), **interruptions)
def test_what_is_open_is_as_a_whole(
    store: Store, story: list[Step], crash_at: int, after: bool, new_process: set[int]
) -> None:
    """With what brokers show too. (What is decided stays as it was decided, however counters and positions move on.)"""
    ended = live_through(store, story, crash_at, after, new_process)
    found = written(store)
    decided = {(row["message"], row["receiver"]) for row in found if not row["open"]}
    at_once = [row for row in whole(store, ended) if (row["message"], row["receiver"]) not in decided]
    assert differences([row for row in found if row["open"]], at_once) == []
    agreed(store)


@pytest.mark.parametrize("new_process", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("writes", [1, 2, 3, 5, 6])
def test_a_failure_between_any_two_writes_changes_nothing(
    store: Store, writes: int, after: bool, new_process: bool
) -> None:
    """First judgement and change alike: what was half written is made whole, by the next judge or by the same one."""
    clock = Clock()
    fragile: Any = Fragile(store, writes, after=after)
    send = sent("orders", "kafka", **in_kafka(0))
    steps: list[tuple[float, S]] = [
        (1.0, send),
        (3.0, processed(send, start=2.0, settle="none")),
        (9.0, committed("orders", 1, start=4.0)),
    ]
    crashes = 0
    one = judge(fragile, clock)
    for seconds, span in steps:
        clock.seconds = seconds
        take(store, span)
        try:
            one.settle()
        except Crash:
            crashes += 1
            one = judge(fragile, clock) if new_process else one
            one.settle()
        agreed(store)
    assert crashes == 1
    assert [row["cause"] for row in written(store)] == ["settled.committed"]


def test_more_than_a_batch_of_one_moment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that were learnt of in the same millisecond are all judged, also where they are more than one batch."""
    monkeypatch.setattr(loop, "BATCH", 7)
    clock = Clock()
    for _ in range(3):
        take(store, *(sent() for _ in range(30)))
    clock.seconds = 1.0
    assert judge(store, clock).settle() == 90
    assert len(written(store)) == 90
    assert judge(store, clock).tick().more is False


def test_a_clock_that_was_set_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is learnt after the host's clock was set back, and so bears an earlier moment, is judged all the same."""
    clock = Clock()
    take(store, sent("before"))
    one = judge(store, clock)
    one.settle()
    store._writer.command("INSERT INTO touched SELECT day, at + INTERVAL 1 HOUR, message FROM touched")
    ahead = time.time() - time.monotonic() + 3600.0
    monkeypatch.setattr(store, "complete_until", lambda: int(time.time() * 1000) + 3_600_001)
    monkeypatch.setattr(loop, "_wall_ahead", lambda: ahead)
    one = judge(store, clock)
    one.settle()  # by a clock an hour ahead
    monkeypatch.undo()
    take(store, sent("after"))
    one.settle()
    assert {row["destination"] for row in written(store)} == {"before", "after"}


def test_more_at_once_than_are_looked_up_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of messages whose moment comes together all are judged, however few are looked up at a time."""
    monkeypatch.setattr(loop, "MOST", 7)
    monkeypatch.setattr(changes, "MOST", 7)
    monkeypatch.setattr(loop, "BATCH", 5)
    clock = Clock()
    take(store, subscribed(), *(sent() for _ in range(40)))
    one = judge(store, clock)
    clock.seconds = 3.0
    one.settle()
    clock.seconds = 40.0
    one.settle()
    assert {row["cause"] for row in written(store)} == {"overdue.no_evidence"}


def test_what_is_settled_is_left_alone(store: Store) -> None:
    """A delivery that is settled is judged again only for a fact that names it."""
    clock = Clock()
    send = sent()
    take(store, subscribed(), send, processed(send))
    one = judge(store, clock)
    clock.seconds = 5.0
    assert one.settle() == 1
    clock.seconds = 5_000.0
    assert one.tick().judged == 0
    take(store, processed(send, "mail", start=2.0, service="mail"))
    assert one.settle() == 1


def test_what_waits_is_judged_when_its_moment_comes(store: Store) -> None:
    """Not before, and by no other message."""
    clock = Clock()
    waiting, settled = sent(start=0.0), sent("paid", start=0.0)
    take(store, subscribed(), waiting, settled, processed(settled))
    one = judge(store, clock)
    clock.seconds = 3.0
    one.settle()
    clock.seconds = 29.0
    assert one.tick().judged == 0
    clock.seconds = 31.0
    assert one.tick().judged == 1
    assert {row["cause"] for row in written(store)} == {"settled.ack", "overdue.no_evidence"}


def test_what_has_waited_for_days_is_still_there(store: Store) -> None:
    """However much came after it: what is open has no window."""
    start = (at(0) - T0).total_seconds() - 3 * 86_400
    take(store, subscribed(start=start - 5), sent(start=start))
    one = judge(store, Clock())
    one.settle()
    take(store, *(one for _ in range(500) for send in [sent("paid")] for one in (send, processed(send))))
    one.settle()
    (row,) = store.query("open_counts", {"top": 10})
    assert (row["destination"], row["receiver"], row["waiting"]) == ("orders", "billing", 1)


def test_another_deadline_judges_all_that_is_open_again(store: Store) -> None:
    """A collector started with another deadline tells at once what is overdue by it."""
    clock = Clock()
    take(store, subscribed(), sent())
    clock.seconds = 20.0
    judge(store, clock).settle()
    assert [row["verdict"] for row in written(store)] == ["waiting"]
    Judge(store, lambda _: {}, deadline_s=10.0, clock=clock).settle()
    assert [row["verdict"] for row in written(store)] == ["overdue"]


def test_somebody_who_was_told_of_late_is_owed_what_was_sent_meanwhile(store: Store) -> None:
    """A subscription that is reported after the message was judged gives it a receiver."""
    clock = Clock()
    take(store, sent(start=1.0))
    one = judge(store, clock)
    clock.seconds = 4.0
    one.settle()
    assert [(row["receiver"], row["verdict"]) for row in written(store)] == [("", "no_receiver")]
    take(store, subscribed(start=0.0))
    one.settle()
    assert [(row["receiver"], row["verdict"]) for row in written(store)] == [("billing", "waiting")]
    agreed(store)


def test_a_report_that_comes_much_later_gives_a_receiver(store: Store) -> None:
    """Also one of a subscription that lasts only while somebody is connected, long after the time it is about."""
    clock = Clock()
    take(store, sent("prices", "nats", start=1.0))
    one = judge(store, clock)
    clock.seconds = 40.0
    one.settle()
    assert [(row["receiver"], row["verdict"]) for row in written(store)] == [("", "no_receiver")]
    take(store, subscribed("prices", "billing", "nats", start=0.0, durable=False))
    one.settle()
    assert [row["receiver"] for row in written(store)] == ["billing"]
    agreed(store)


def test_news_that_come_while_a_sample_is_judged_are_no_mismatch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts that came in since the last look are seen at the next one: that a sample shows them already is not counted."""
    monkeypatch.setattr(loop, "_AUDIT_EVERY_S", 0.0)
    clock = Clock()
    sends = [sent() for _ in range(100)]
    take(store, subscribed(), *sends)
    one = judge(store, clock)
    clock.seconds = 5.0
    one.settle()
    evaluate, late = loop.evaluate, [processed(send) for send in sends]

    def after_news(*arguments: Any) -> Any:
        if late:
            take(store, *late)
            late.clear()
        return evaluate(*arguments)

    monkeypatch.setattr(loop, "evaluate", after_news)
    missed = 0
    while late:
        missed += one.tick().missed
    assert missed == 0
    one.settle()
    assert {row["verdict"] for row in written(store)} == {"settled"}
    agreed(store)


def test_a_sample_is_judged_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was missed is found by it, counted and put right; where nothing was, nothing is."""
    monkeypatch.setattr(loop, "_AUDIT_EVERY_S", 0.0)
    clock = Clock()
    # A sample takes a sixteenth: of so many, some are in it sooner or later.
    take(store, subscribed(), *(sent() for _ in range(100)))
    one = judge(store, clock)
    clock.seconds = 5.0
    one.settle()
    assert sum(one.tick().missed for _ in range(3)) == 0
    store._writer.command(
        "ALTER TABLE durable_subscriptions DELETE WHERE receiver = 'billing' SETTINGS mutations_sync = 1"
    )
    one = judge(store, clock)
    with capture_logs() as logged:
        while not one.tick().missed:
            pass
    assert any("otherwise" in line["event"] for line in logged)
    assert "no_receiver" in {row["cause"] for row in written(store)}
    agreed(store)
