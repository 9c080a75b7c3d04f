"""The export queue: spans are encoded as they end, one thread sends them; bounded, counted, as new after a fork."""

import time
from collections import deque
from contextlib import suppress
from itertools import chain
from queue import Empty, SimpleQueue
from typing import Any, Final

from opentelemetry.sdk.resources import Resource

from hopwatch.faults import swallowed
from hopwatch.lean.backlog import REQUEST_BYTES, Backlog, Batch
from hopwatch.lean.encode import Encoder, encoded
from hopwatch.lean.ledger import ExportStats, Loss, Losses, Trouble
from hopwatch.lean.lossreport import LossReport
from hopwatch.lean.sender import Delivered, Later, Sender, pause
from hopwatch.lean.sent import LeanSend
from hopwatch.lean.settings import ExportSettings
from hopwatch.lean.span import LeanSpan
from hopwatch.native import native
from hopwatch.threads import Event, Lock, Thread

_TOGETHER: Final = 512
"""Spans put together at a time: what gives way together where the collector takes nothing."""

_TOGETHER_BYTES: Final = 4 << 20

_GIVE_UP_S: Final = 300.0
"""How long a span waits for a collector that takes nothing, if the bound does not end it before."""

_LAST_PAUSE_S: Final = 0.5
"""The longest pause between two attempts when the process is about to end."""


class SpanQueue:
    """Takes ended spans from any thread and never blocks.

    Its thread begins with the first span, so that importing and pre-forking servers start none in vain. Half of the
    bound is kept for spans just ended: while a collector is away the oldest give way to the newest.
    Spans may end in finalizers, in the middle of anything: no lock is taken on the way that could be held already.
    """

    __slots__ = ("__dict__", "__weakref__", "_ended", "_room", "_stir_at")  # where C finds what it looks at
    _encoder: Encoder | None

    def __init__(self, settings: ExportSettings, resource: Resource) -> None:
        self._settings = settings
        self.renew(resource)

    def describe(self, resource: Resource) -> None:
        """Let `resource` describe the process from now on."""
        self._resource = resource
        self._encoder = None

    def renew(self, resource: Resource) -> None:
        """Begin anew: in a forked child nothing that waited is ours, and neither thread nor connection exist."""
        settings = self._settings
        self.describe(resource)
        # Tracer and bytes take turns: pairs of them would be objects that wait, and the garbage collector goes through
        # such again and again.
        self._ended: deque[Any] = deque()
        self._room = settings.queued_spans
        self._stir_at = 0
        self._together = min(_TOGETHER, settings.request_spans)
        self._span_bytes = 1
        self._thread: Thread | None = None
        self._starting = Lock()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._flushes: deque[Event] = deque()
        self._closed = self._given_up = False
        self._deadline = float("inf")
        self._sender = Sender(settings)
        self._backlog = Backlog(max(settings.queued_spans // 2, 1), settings.queued_bytes // 2)
        self._delivered = 0
        self._losses = Losses()
        self._loss_report = LossReport(self._losses)
        self._trouble = Trouble()
        self._attempt = 0
        self._not_before = self._sent_at = 0.0

    # --- any thread --------------------------------------------------------------------------------------

    def put(self, span: LeanSpan | LeanSend) -> None:
        """Take what has ended, or count it as lost."""
        waiting = len(self._ended) >> 1
        if waiting >= self._room:
            self._losses.add(Loss.CLOSED if self._closed else Loss.FULL)
            return
        try:
            self._ended.extend((span._tracer, encoded(span)))
        except Exception:  # noqa: BLE001 — times before 1970 and the like
            self._losses.add(Loss.UNENCODABLE)
        if waiting >= self._stir_at:
            self._stir()

    def stats(self) -> ExportStats:
        """Return what became of the spans so far."""
        waiting = 0 if self._given_up else self._waiting() + self._backlog.spans
        return ExportStats(self._delivered, waiting, self._losses.counts())

    def force_flush(self, timeout_s: float) -> bool:
        """Wait until what has ended so far is dealt with, at most so long; whether it is."""
        if self._thread is None or self._closed:
            return not self._ended
        done = Event()
        self._flushes.append(done)
        self._not_before = 0.0
        self._bell.put(None)
        return done.wait(timeout_s)

    def shutdown(self, timeout_s: float) -> None:
        """Send what is there, at most so long, and take no more."""
        if self._closed:
            return
        self._deadline = time.monotonic() + 0.9 * timeout_s
        self._closed = True
        self._room = 0
        self._not_before = 0.0
        thread = self._thread
        if thread is None:
            self._run()
            return
        self._bell.put(None)
        thread.join(timeout_s)
        if thread.running:  # it hangs in a request; the process will not wait for it
            self._give_up()

    def _stir(self) -> None:
        """Wake the thread, start it if this is the first span."""
        if self._thread is None:
            try:
                self._start()
            except RuntimeError as error:  # Python starts no thread while it shuts down; `shutdown` will send
                swallowed("export", error)
        elif self._bell.empty():
            self._bell.put(None)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = Thread("hopwatch-export", self._run)
                thread.start()
                self._thread = thread
                self._stir_at = self._plenty()

    # --- the export thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._rest(self._idle_s())
            try:
                self._round()
            except Exception as fault:  # noqa: BLE001 — a guest's thread must not die of one bad round
                swallowed("export", fault)
            if self._closed and (self._is_empty() or time.monotonic() >= self._deadline):
                break
        self._give_up()
        self._sender.close()

    def _give_up(self) -> None:
        """Count what is left as lost; the process ends, and whatever is still under way counts for nothing."""
        with self._starting:
            if self._given_up:
                return
            self._given_up = True
        self._room = 0
        left = self._waiting() + self._backlog.spans
        if left:
            self._losses.add(Loss.CLOSED, left)
        self._losses.tell(last=True)

    def _rest(self, longest_s: float) -> None:
        with suppress(Empty):
            self._bell.get(timeout=longest_s)
            while True:
                self._bell.get_nowait()

    def _idle_s(self) -> float:
        if self._waiting() >= self._plenty() or (self._closed and not self._backlog.spans):
            return 0.0
        now, every_s = time.monotonic(), self._settings.every_s
        due = every_s
        if self._backlog.spans:
            due = max(self._not_before, 0.0 if self._closed else self._sent_at + every_s) - now
        return max(0.0, min(due, every_s, self._deadline - now))

    def _round(self) -> None:
        """Put together what has ended until now, send what may be sent."""
        asked = len(self._flushes)
        left = self._waiting()
        while left > 0:
            left -= self._gather(min(left, self._together))
            if self._backlog.spans >= self._plenty():
                self._send()
        due = time.monotonic() - self._sent_at >= self._settings.every_s
        if due or self._closed or asked:
            self._send()
        self._fit()
        self._losses.tell()
        if not self._backlog.spans:
            for _ in range(asked):
                self._flushes.popleft().set()

    def _plenty(self) -> int:
        """Return how many spans fill a request, or so much of the bound that they must not wait for that."""
        settings = self._settings
        spans = min(REQUEST_BYTES, settings.queued_bytes // 4) // self._span_bytes
        return max(1, min(settings.request_spans, settings.queued_spans // 4, spans))

    def _gather(self, count: int) -> int:
        if not self._closed:
            self._room -= count  # what is taken still waits, and its place is not free
        taken = [self._ended.popleft() for _ in range(2 * count)]
        tracers, fields = taken[::2], taken[1::2]
        size = sum(map(len, fields))
        age_s = self._backlog.age_s()
        lost = self._backlog.add(tracers, fields, size)
        if lost:
            self._losses.add(Loss.FULL, lost, age_s=age_s)
        self._span_bytes = size // count + 1
        self._fit()
        return count

    def _fit(self) -> None:
        """Let as many spans wait as the bounds allow, spans being as large as those seen last."""
        settings, size = self._settings, self._span_bytes
        self._together = max(1, min(_TOGETHER, settings.request_spans, _TOGETHER_BYTES // size))
        self._stir_at = self._plenty()
        if not self._closed:
            most = min(settings.queued_spans, settings.queued_bytes // size)
            self._room = max(1, most - self._backlog.spans)

    def _send(self) -> None:
        backlog = self._backlog
        while time.monotonic() >= self._not_before:
            age_s = backlog.age_s()
            lost = backlog.pop_older_than(_GIVE_UP_S)
            if lost:
                self._losses.add(Loss.TOO_OLD, lost, age_s=age_s)
                continue
            batches = backlog.head(self._settings.request_spans)
            body = self._encoded(batches)
            body += self._loss_report.due(self._resource, last=self._closed)
            if not body:
                return
            left_s = max(0.1, self._deadline - time.monotonic())
            self._sent_at = time.monotonic()
            answer = self._sender.send(body, min(self._settings.timeout_s, left_s))
            if isinstance(answer, Later):
                self._loss_report.postponed()
                self._postpone(answer)
                return
            self._loss_report.answered(taken=isinstance(answer, Delivered) and not answer.rejected)
            if self._given_up:
                return
            self._attempt = 0
            spans = backlog.pop(len(batches))
            refused = answer.rejected if isinstance(answer, Delivered) else spans
            refused = min(refused, spans)
            self._delivered += spans - refused
            if refused:
                said = "rejected by the collector" if isinstance(answer, Delivered) else answer.reason
                self._losses.add(Loss.REFUSED, refused, said, age_s=age_s)

    def _encoded(self, batches: list[Batch]) -> bytes:
        """Return a request of all their spans: one copy of each, as what waits is large and cold."""
        if self._encoder is None:
            self._encoder = Encoder(self._resource)
        tracers = chain.from_iterable(batch.tracers for batch in batches)
        fields = chain.from_iterable(batch.fields for batch in batches)
        return self._encoder.encode([*tracers], [*fields])

    def _postpone(self, answer: Later) -> None:
        wait_s = pause(self._attempt, answer.after_s)
        if self._closed:
            wait_s = min(wait_s, _LAST_PAUSE_S)
        self._attempt += 1
        self._not_before = time.monotonic() + wait_s
        self._trouble.tell(self._settings.url, answer.reason, wait_s)

    def _waiting(self) -> int:
        return len(self._ended) >> 1

    def _is_empty(self) -> bool:
        return not self._ended and not self._backlog.spans


if native is not None:
    native.learn(queue=SpanQueue)
