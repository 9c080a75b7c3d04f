"""A stage for what happens to messages: real brokers, instrumented services, a witness, a ledger, and plain records.

A scenario lets things happen through `Stage.send` and its own consumers, whose handlers write down what they got; then
`Stage.judged` waits until the ledger says of every message what the scenario knows of it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

from ledger_support import T0, judged
from opentelemetry import propagate
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.resources import Resource

import hopwatch
from hopwatch.lean.encode import Encoder, encoded
from hopwatch.lean.provider import LeanTracerProvider
from hopwatch.lean.sent import LeanSend
from hopwatch.lean.span import LeanSpan
from hopwatch.propagation import HopwatchPropagator
from hopwatch.reports import reporter
from hopwatch_collector.api.models import UNDELIVERED, Delivery, Verdict
from hopwatch_collector.engine import Store
from hopwatch_collector.judge.loop import Judge
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.query import Queries
from hopwatch_collector.query.clocks import ClockReader
from hopwatch_collector.query.window import Window
from hopwatch_collector.witness.model import Witness
from hopwatch_collector.witness.watch import Watch
from hopwatch_demo.patience import scale_wait

WITHIN_S: Final = 40.0
DEADLINE_S: Final = 300.0
"""Of deliveries, where a test is not about it: what waits must not be overdue because the machine is slow."""
KEY: Final = "case"
"""The business key that names a scenario's message in the ledger."""

_tokens = count()


class Ended(deque[LeanSpan | LeanSend]):
    """An outlet that keeps what has ended until it is taken."""

    put = deque.append

    def take(self) -> list[LeanSpan | LeanSend]:
        """Return what has ended since the last time."""
        return [self.popleft() for _ in range(len(self))]

    def force_flush(self, timeout_s: float) -> bool:
        """Nothing waits here to be sent."""
        return True

    def shutdown(self, timeout_s: float) -> None:
        """Nothing ends."""

    def describe(self, resource: Resource) -> None:
        """The resource stays."""

    def renew(self, resource: Resource) -> None:
        """No test forks."""


Expected = Mapping[tuple[str, str], str]
"""(Name of the message, receiver) → verdict."""


@dataclass
class Stage:
    """One scenario's services, witness and ledger."""

    store: Store
    watch: Watch
    instrumentor: BaseInstrumentor
    unique: str
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    told: list[Delivery] = field(default_factory=list)
    """What the ledger said when it was right, for the table in the README."""

    def __post_init__(self) -> None:
        resource = Resource({"service.name": "shop"})
        self._ended = Ended()
        self._encoder = Encoder(resource)
        self._judging: tuple[float, Judge] | None = None
        self.provider = LeanTracerProvider(resource, self._ended)

    @contextmanager
    def instrumented(self) -> Iterator[None]:
        """Services are instrumented, as `hopwatch.instrument` would do it, with this stage's exporter."""
        before = propagate.get_global_textmap()
        propagate.set_global_textmap(HopwatchPropagator(before))
        self.instrumentor.instrument(tracer_provider=self.provider, skip_dep_check=True)
        try:
            yield
        finally:
            self.instrumentor.uninstrument()
            reporter.stop()
            propagate.set_global_textmap(before)

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """What happens in here is done by services that nobody instrumented. Clients made before stay instrumented."""
        self.instrumentor.uninstrument()
        try:
            yield
        finally:
            self.instrumentor.instrument(tracer_provider=self.provider, skip_dep_check=True)

    def named(self, name: str) -> AbstractContextManager[None]:
        """Everything sent in here is the message of this name."""
        return hopwatch.tag(**{KEY: f"{self.unique}.{name}"})

    async def observe(self) -> None:
        """Have the witness look and the collector take what services have exported so far."""
        with suppress_instrumentation():  # a witness in the collector's own process is not instrumented
            await self.watch.once()
        await asyncio.to_thread(self.collect)

    def collect(self) -> None:
        """Give the engine every span that has ended since the last time."""
        ended = self._ended.take()
        if ended:
            body = self._encoder.encode([span._tracer for span in ended], [encoded(span) for span in ended])
            self.store.insert_otlp(body, f"scenario-{next(_tokens)}")

    def ledger(self, deadline_s: float = DEADLINE_S) -> list[Delivery]:
        """Every delivery of this scenario's named messages, as the collector's API would answer."""
        return [one for one in self._deliveries(deadline_s, None) if self.name_of(one) is not None]

    def undelivered(self, deadline_s: float) -> list[Delivery]:
        """Everything undelivered, named or not."""
        return self._deliveries(deadline_s, UNDELIVERED)

    def _deliveries(self, deadline_s: float, verdicts: frozenset[Verdict] | None) -> list[Delivery]:
        window = Window(self.began - timedelta(seconds=5), datetime.now(UTC))
        self._judge(deadline_s).settle()
        # More than that are undelivered for a moment only, while the last of very many are on their way.
        return Queries(self.store).deliveries(window, verdicts, limit=20_000).deliveries

    def _judge(self, deadline_s: float) -> Judge:
        """The judge of this scenario, one for as long as the deadline is the same."""
        if self._judging is None or self._judging[0] != deadline_s:
            clocks = ClockReader(self.store)
            self._judging = deadline_s, Judge(self.store, clocks.offsets_around, deadline_s)
        return self._judging[1]

    def _as_a_whole(self, deadline_s: float) -> str:
        """What comes out where all is judged at once from nothing but the evidence, for who has to find out why."""
        rows = judged(
            self.store, now=(datetime.now(UTC) - T0).total_seconds(), deadline=deadline_s, until=1e6
        )
        return "".join(
            f"\nas a whole: {dict(row['keys']).get(KEY, '')} {row['receiver']}: {row['cause']}"
            for row in rows
        )

    def name_of(self, delivery: Delivery) -> str | None:
        """The name of a delivery's message in this scenario, None if it is of another."""
        unique, _, name = delivery.keys.get(KEY, "").partition(".")
        return name if unique == self.unique else None

    async def judged(
        self,
        expected: Expected,
        *,
        broker: Iterable[tuple[str, str]] = (),
        only: Callable[[Delivery], bool] = lambda _: True,
        undelivered: bool = False,
        deadline_s: float = DEADLINE_S,
        within_s: float = WITHIN_S,
    ) -> dict[tuple[str, str], Delivery]:
        """Wait until the ledger says exactly this of exactly these deliveries, and return them.

        Of those in `broker`, the broker must be a witness; deliveries that are not `only` are left out. With
        `undelivered` it is about all that is undelivered, and that only.
        """
        until = time.monotonic() + scale_wait(within_s)
        rest = 0.5
        while True:
            await self.observe()
            found = await asyncio.to_thread(self.undelivered if undelivered else self.ledger, deadline_s)
            said = {(self.name_of(one) or "", one.receiver): one for one in found if only(one)}
            right = {pair: str(one.verdict) for pair, one in said.items()} == dict(expected)
            if right and all("broker" in said[pair].witnesses for pair in broker):
                self.told.extend(said[pair] for pair in expected)
                return said
            if time.monotonic() >= until:
                raise AssertionError(
                    (_difference(expected, said) or "the broker is no witness") + self._as_a_whole(deadline_s)
                )
            await asyncio.sleep(rest)
            # Asking takes half a second of a CPU that other tests wait for; what counters tell comes after seconds.
            rest = min(rest * 1.5, 2.0)


def _difference(expected: Expected, said: Mapping[tuple[str, str], Delivery]) -> str:
    lines = [
        f"{pair}: expected {expected.get(pair, 'nothing')}, "
        + (
            f"the ledger says {said[pair].verdict} ({said[pair].reason})"
            if pair in said
            else "not in the ledger"
        )
        for pair in sorted(set(expected) | set(said))
        if pair not in said or expected.get(pair) != str(said[pair].verdict)
    ]
    return "\n".join(lines)


async def until(
    condition: Callable[[], bool | Awaitable[bool]], what: str, within_s: float = WITHIN_S
) -> None:
    """Wait for a condition with a deadline."""
    end = time.monotonic() + scale_wait(within_s)
    while True:
        held: Any = condition()
        if held if isinstance(held, bool) else await held:
            return
        assert time.monotonic() < end, f"waited {scale_wait(within_s):g} s for {what}"
        await asyncio.sleep(0.05)


def watching(witness: Witness, store: Store) -> Watch:
    """A watch with metrics of its own."""
    return Watch(witness, store, Metrics())
