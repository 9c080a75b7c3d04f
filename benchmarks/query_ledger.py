"""What `make bench-query` asks of deliveries beside single messages: lists, counts and rates over an hour and a day.

Every answer is compared with what was put in, minute by minute: counts go by whole minutes.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from benchmarks.traffic import DESTINATIONS, RECEIVER, Body, Outcome
from hopwatch_collector.api.models import (
    UNDELIVERED,
    CauseList,
    DeliveryList,
    LagList,
    Live,
    Topology,
    Verdict,
)
from hopwatch_collector.engine import Store
from hopwatch_collector.judge.loop import Judge
from hopwatch_collector.query import Queries, Window
from hopwatch_collector.query.clocks import ClockReader

HOURS: Final = (1, 24)
_TIMES: Final = 7
_WARM: Final = 2
_LIVE_S: Final = 300
_PAGE: Final = 100
_VERDICTS: Final = {Outcome.SETTLED: "settled", Outcome.FAILED: "failed", Outcome.WAITS: "overdue"}
_SUBSCRIBED: Final = (
    "day", "system", "pattern", "receiver", "resource", "service", "first_at", "last_at", "unsubscribed_at",
)  # fmt: skip

Counts = Mapping[str, int]
"""Deliveries by verdict."""


@dataclass(slots=True)
class PutIn:
    """Messages by what becomes of them and the minute (s) in which they were sent."""

    by_minute: dict[Outcome, Counter[int]] = field(
        default_factory=lambda: {outcome: Counter() for outcome in Outcome}
    )
    last_s: int = 0

    def add(self, body: Body) -> None:
        """Count the messages of a request of their sender."""
        if body.sent_s is None:
            return
        minutes, counts = np.unique(body.sent_s // np.uint64(60) * np.uint64(60), return_counts=True)
        self.by_minute[body.outcome].update(dict(zip(minutes.tolist(), counts.tolist(), strict=True)))
        self.last_s = max(self.last_s, int(body.sent_s.max()))

    def since(self, moment: datetime) -> Counter[str]:
        """Return what there is of messages sent in that minute and later."""
        first = int(moment.timestamp()) // 60 * 60
        found = {
            _VERDICTS[outcome]: sum(count for minute, count in minutes.items() if minute >= first)
            for outcome, minutes in self.by_minute.items()
        }
        return +Counter(found)

    def all(self) -> Counter[str]:
        """Return all there is."""
        return self.since(datetime(1970, 1, 2, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: what asks it, what its answer counts, and what is true; both at a moment."""

    name: str
    ask: Callable[[datetime], Any]
    counts: Callable[[Any], Counter[str]]
    true: Callable[[datetime], Counter[str]]


def subscribe(store: Store, at: datetime) -> None:
    """Whoever processes messages is owed them from a moment on, as a witness writes it down."""
    never = datetime(1970, 1, 1, tzinfo=UTC)
    rows = [
        [at.date(), "nats", destination, RECEIVER, 7, "billing", at, at, never]
        for destination in DESTINATIONS
    ]
    store.write("durable_subscriptions", _SUBSCRIBED, rows)
    judge(store)


def judge(store: Store) -> float:
    """Judge all there is; return the CPU seconds that took, telling how far it is."""
    judge = Judge(store, ClockReader(store).offsets_around)
    began, printed = time.process_time(), time.monotonic()
    done = 0
    while True:
        tick = judge.tick()
        done += tick.judged
        if time.monotonic() - printed > 2:
            printed = time.monotonic()
            print(f"          {done:>10,} messages judged", flush=True)
        if not tick.more:
            return time.process_time() - began


def measure(store: Store, put_in: PutIn) -> tuple[dict[str, float], bool]:
    """CPU milliseconds by question, and whether every answer was right."""
    figures, exact = {}, True
    for asked in questions(Queries(store), put_in):
        cpu = []
        for _ in range(_WARM + _TIMES):
            now, began = datetime.now(UTC), time.process_time()
            answer = asked.ask(now)
            cpu.append((time.process_time() - began) * 1e3)
            found = asked.counts(answer)
            # The minute may have changed meanwhile.
            if found not in (asked.true(now), asked.true(datetime.now(UTC))):
                exact = False
                print(
                    f"WRONG: {asked.name} counts {dict(found)}, put in were {dict(asked.true(now))}",
                    flush=True,
                )
        figures[f"{asked.name}_cpu_ms"] = statistics.median(cpu[_WARM:])
        print(f"{asked.name:<18}{figures[f'{asked.name}_cpu_ms']:>10.1f} ms of CPU", flush=True)
    return figures, exact


def questions(queries: Queries, put_in: PutIn) -> Sequence[Asked]:
    """Return all of them."""
    found: list[Asked] = []
    for hours in HOURS:
        found += _over(timedelta(hours=hours), f"{hours}h", queries, put_in)
    back = timedelta(seconds=_LIVE_S)
    end = datetime.fromtimestamp(put_in.last_s, UTC)

    def live(now: datetime) -> Live:
        """The last minutes of what was put in, though that may be a while ago."""
        return queries.live((now - end + back).total_seconds())

    hour = timedelta(hours=1)
    return [
        *found,
        Asked("metrics", lambda _: _samples(queries), _of_metrics, lambda now: _standing(put_in, now - hour)),
        Asked("live", live, _of_live, lambda _: put_in.since(end - back)),
    ]


def _over(stretch: timedelta, words: str, queries: Queries, put_in: PutIn) -> list[Asked]:
    """The questions about what was sent since so long ago."""

    def window(now: datetime) -> Window:
        return Window(now - stretch, now)

    def undelivered(now: datetime) -> Counter[str]:
        return _only_undelivered(put_in.since(now - stretch))

    def page(now: datetime) -> Counter[str]:
        """A full page of the newest, or all there is."""
        return Counter(rows=min(_PAGE, put_in.since(now - stretch).total()))

    def edges(now: datetime) -> Counter[str]:
        counts = put_in.since(now - stretch)
        return +Counter(deliveries=counts.total(), undelivered=_only_undelivered(counts).total())

    return [
        Asked(f"undelivered_{words}", lambda now: queries.undelivered(window(now)), _of_causes, undelivered),
        Asked(
            f"deliveries_{words}", lambda now: queries.deliveries(window(now), limit=_PAGE), _of_page, page
        ),
        Asked(f"lag_{words}", lambda now: queries.lag(now - stretch), _of_lag, lambda _: _waiting(put_in)),
        Asked(f"topology_{words}", lambda now: queries.topology(window(now)), _of_edges, edges),
    ]


def _only_undelivered(counts: Counter[str]) -> Counter[str]:
    return Counter({verdict: count for verdict, count in counts.items() if Verdict(verdict) in UNDELIVERED})


def _waiting(put_in: PutIn) -> Counter[str]:
    return +Counter(waiting=put_in.all()["overdue"])


def _standing(put_in: PutIn, since: datetime) -> Counter[str]:
    """What was sent since then, and all that is open whenever it was sent."""
    return Counter({**put_in.since(since), "overdue": put_in.all()["overdue"]}) + Counter()


def _samples(queries: Queries) -> list[tuple[str, Mapping[str, str], float]]:
    """All of /metrics that is about stored spans and deliveries."""
    return [sample for _, ask in queries.metrics() for sample in ask()]


def _of_causes(answer: CauseList) -> Counter[str]:
    found: Counter[str] = Counter()
    for cause in answer.causes:
        found[cause.verdict.value] += cause.deliveries
    return found


def _of_page(answer: DeliveryList) -> Counter[str]:
    sent = [one.sent_at for one in answer.deliveries if one.sent_at is not None]
    return Counter(rows=len(sent)) if sent == sorted(sent, reverse=True) else Counter()


def _of_lag(answer: LagList) -> Counter[str]:
    return +Counter(waiting=sum(row.waiting for row in answer.rows))


def _of_edges(answer: Topology) -> Counter[str]:
    return +Counter(
        deliveries=sum(edge.deliveries for edge in answer.edges),
        undelivered=sum(edge.undelivered for edge in answer.edges),
    )


def _of_metrics(samples: Sequence[tuple[str, Mapping[str, str], float]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, labels, value in samples:
        if name == "hopwatch_deliveries":
            found[labels["verdict"]] += int(value)
    return +found


def _of_live(answer: Live) -> Counter[str]:
    return +Counter({count.verdict.value: count.deliveries for count in answer.verdicts})
