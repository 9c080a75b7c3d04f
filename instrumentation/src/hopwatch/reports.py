"""News that spans alone would bring too late or never: hops still open after a second, who is subscribed."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple, Protocol

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.util.types import AttributeValue

from hopwatch.conventions import (
    BROKER,
    MEMBER,
    MESSAGING_SYSTEM,
    RECEIVER,
    REPORT,
    SUBSCRIPTION_DURABLE,
    SUBSCRIPTION_PATTERN,
    Report,
)
from hopwatch.faults import swallowed
from hopwatch.forks import after_fork
from hopwatch.threads import Event, Lock, Thread

OPEN_AFTER_S: Final = 1.0
"""Seconds after which a hop in progress is reported while it is still open."""

SUBSCRIBE_EVERY_S: Final = 15.0
"""Seconds between repetitions of a subscription report; the collector forgets non-durable ones after three."""

_TICK_S: Final = 0.25


class Holding(NamedTuple):
    """A receiver's title to a destination pattern of a broker, as one of the broker's clients holds it.

    `broker` is empty where the client does not know it, `member` where it does not know as whom the broker lists it, or
    where nobody in particular holds the title.
    """

    pattern: str
    receiver: str
    durable: bool
    broker: str = ""
    member: str = ""


_Title = tuple[str, str, str, str]
"""System, broker, receiver and pattern of a holding: what is held, by whomever."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A holding, and what reports it; `ledger` returns what the process tells of its messages."""

    tracer: Tracer
    system: str
    holding: Holding
    ledger: Callable[[], Mapping[str, AttributeValue]]

    @property
    def title(self) -> _Title:
        """What is held."""
        holding = self.holding
        return self.system, holding.broker, holding.receiver, holding.pattern

    def report(self, kind: Report) -> None:
        """Emit the subscription as a zero-length span in a trace of its own."""
        pattern, receiver, durable, broker, member = self.holding
        attributes: dict[str, AttributeValue] = {
            REPORT: kind,
            MESSAGING_SYSTEM: self.system,
            SUBSCRIPTION_PATTERN: pattern,
            RECEIVER: receiver,
            SUBSCRIPTION_DURABLE: durable,
            **self.ledger(),
        }
        if broker:
            attributes[BROKER] = broker
        if member:
            attributes[MEMBER] = member
        self.tracer.start_span(
            f"{kind} {pattern}", context=Context(), kind=SpanKind.INTERNAL, attributes=attributes
        ).end()


class InProgress(Protocol):
    """Something that is reported if it lasts."""

    @property
    def started(self) -> float:
        """When it began, on the monotonic clock."""
        ...

    def report(self) -> None:
        """Tell of it."""
        ...


class Reporter:
    """One daemon thread per process, started by the first hop or subscription, restarted after a fork."""

    def __init__(self) -> None:
        self.in_progress: dict[int, InProgress] = {}
        """What is to be reported if it lasts, by identity; whoever ends something takes it out."""
        self.thread: Thread | None = None
        """What reports; None where nothing was to be watched yet: then `start` has to be called."""
        self._held: dict[_Title, dict[str, Subscription]] = {}
        """Titles, each by the members that hold it; nobody in particular only where no member does."""
        self._wake = Event()
        self._lock = Lock()

    def opened(self, hop: InProgress, key: int | None = None) -> None:
        """Watch a hop for as long as it is in `in_progress`, under its own identity or that of what stands for it."""
        self.in_progress[id(hop) if key is None else key] = hop
        if self.thread is None:
            self.start()

    def subscribed(self, subscription: Subscription) -> None:
        """Report a subscription now and every 15 s until it ends."""
        held = self._held.setdefault(subscription.title, {})
        member = subscription.holding.member
        if member not in held and (member or not held):
            held.pop("", None)
            held[member] = subscription
            subscription.report(Report.SUBSCRIBE)
        self.start()

    def moved(self, before: Subscription, now: Subscription) -> None:
        """Report a subscription whose holder is known by other names now: it has connected or joined anew."""
        self._take(before)
        self.subscribed(now)

    def left(self, subscription: Subscription) -> None:
        """Note that a member holds a subscription no longer: a durable one stays, others end with the last of them."""
        known = self._take(subscription)
        if known is None or known.title in self._held:
            return
        if known.holding.durable:
            self._held[known.title] = {"": replace(known, holding=known.holding._replace(member=""))}
        else:
            known.report(Report.UNSUBSCRIBE)

    def unsubscribed(self, system: str, pattern: str, receiver: str, broker: str | None = None) -> None:
        """Report the end of a subscription, if it was ours: whoever holds it, at one broker or at all of them."""
        for title in [*self._held]:
            if (title[0], title[2], title[3]) == (system, receiver, pattern) and broker in (None, title[1]):
                for subscription in [*self._held.pop(title, {}).values()][:1]:
                    subscription.report(Report.UNSUBSCRIBE)

    def _take(self, subscription: Subscription) -> Subscription | None:
        held = self._held.get(subscription.title, {})
        known = held.pop(subscription.holding.member, None)
        if not held:
            self._held.pop(subscription.title, None)
        return known

    def stop(self) -> None:
        """End the thread and forget everything; safe to call twice and without a start."""
        with self._lock:
            thread, self.thread = self.thread, None
        self._wake.set()
        if thread is not None:
            thread.join(2.0)
        self.in_progress.clear()
        self._held.clear()

    def after_fork(self) -> None:
        """In a forked child nothing that the parent watched is ours, and its thread does not exist."""
        self.__init__()  # type: ignore[misc]  # the one honest way to say: as new

    def start(self) -> None:
        """Have a thread, if there is none."""
        with self._lock:
            if self.thread is None:
                self._wake = Event()
                self.thread = Thread("hopwatch-reports", partial(self._run, self._wake))
                self.thread.start()

    def _run(self, wake: Event) -> None:
        repeated = time.monotonic()
        while not wake.wait(_TICK_S):
            try:
                self._report_open()
                if time.monotonic() - repeated >= SUBSCRIBE_EVERY_S:
                    repeated = time.monotonic()
                    for subscription in [one for held in [*self._held.values()] for one in [*held.values()]]:
                        subscription.report(Report.SUBSCRIBE)
            except Exception as error:  # noqa: BLE001 — a guest's thread must not die of one bad report
                swallowed("report", error)

    def _report_open(self) -> None:
        due = time.monotonic() - OPEN_AFTER_S
        for key, hop in list(self.in_progress.items()):
            if hop.started <= due and self.in_progress.pop(key, None) is not None:
                self._report(hop)

    def _report(self, hop: InProgress) -> None:
        try:
            hop.report()
        except Exception as error:  # noqa: BLE001 — what one hop cannot tell must not silence the others
            swallowed("report", error)


reporter: Final = Reporter()
"""The process's reporter."""

after_fork(reporter.after_fork)
