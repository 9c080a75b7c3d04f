"""News that spans alone would bring too late or never: hops still open after a second, who is subscribed."""

import os
import threading
import time
from dataclasses import dataclass
from typing import Final, Protocol

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer

from hopwatch.conventions import (
    MESSAGING_SYSTEM,
    RECEIVER,
    REPORT,
    SUBSCRIPTION_DURABLE,
    SUBSCRIPTION_PATTERN,
    Report,
)
from hopwatch.faults import swallowed

OPEN_AFTER_S: Final = 1.0
"""Seconds after which a hop in progress is reported while it is still open."""

SUBSCRIBE_EVERY_S: Final = 15.0
"""Seconds between repetitions of a subscription report; the collector forgets non-durable ones after three."""

_TICK_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Subscription:
    """One receiver's title to a destination pattern."""

    tracer: Tracer
    system: str
    pattern: str
    receiver: str
    durable: bool

    def report(self, kind: Report) -> None:
        """Emit the subscription as a zero-length span in a trace of its own."""
        self.tracer.start_span(
            f"{kind} {self.pattern}",
            context=Context(),
            kind=SpanKind.INTERNAL,
            attributes={
                REPORT: kind,
                MESSAGING_SYSTEM: self.system,
                SUBSCRIPTION_PATTERN: self.pattern,
                RECEIVER: self.receiver,
                SUBSCRIPTION_DURABLE: self.durable,
            },
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
        self.thread: threading.Thread | None = None
        """What reports; None where nothing was to be watched yet: then `start` has to be called."""
        self._subscriptions: dict[tuple[str, str, str], Subscription] = {}
        self._wake = threading.Event()
        self._lock = threading.Lock()

    def opened(self, hop: InProgress, key: int | None = None) -> None:
        """Watch a hop for as long as it is in `in_progress`, under its own identity or that of what stands for it."""
        self.in_progress[id(hop) if key is None else key] = hop
        if self.thread is None:
            self.start()

    def subscribed(self, subscription: Subscription) -> None:
        """Report a subscription now and every 15 s until `unsubscribed`."""
        key = (subscription.system, subscription.pattern, subscription.receiver)
        if key not in self._subscriptions:
            self._subscriptions[key] = subscription
            subscription.report(Report.SUBSCRIBE)
        self.start()

    def unsubscribed(self, system: str, pattern: str, receiver: str) -> None:
        """Report the end of a subscription, if it was ours."""
        subscription = self._subscriptions.pop((system, pattern, receiver), None)
        if subscription is not None:
            subscription.report(Report.UNSUBSCRIBE)

    def stop(self) -> None:
        """End the thread and forget everything; safe to call twice and without a start."""
        with self._lock:
            thread, self.thread = self.thread, None
        self._wake.set()
        if thread is not None:
            thread.join(timeout=2.0)
        self.in_progress.clear()
        self._subscriptions.clear()

    def after_fork(self) -> None:
        """In a forked child nothing that the parent watched is ours, and its thread does not exist."""
        self.__init__()  # type: ignore[misc]  # the one honest way to say: as new

    def start(self) -> None:
        """Have a thread, if there is none."""
        with self._lock:
            if self.thread is None:
                self._wake = threading.Event()
                self.thread = threading.Thread(
                    target=self._run, args=(self._wake,), name="hopwatch-reports", daemon=True
                )
                self.thread.start()

    def _run(self, wake: threading.Event) -> None:
        repeated = time.monotonic()
        while not wake.wait(_TICK_S):
            try:
                self._report_open()
                if time.monotonic() - repeated >= SUBSCRIBE_EVERY_S:
                    repeated = time.monotonic()
                    for subscription in list(self._subscriptions.values()):
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

os.register_at_fork(after_in_child=reporter.after_fork)
