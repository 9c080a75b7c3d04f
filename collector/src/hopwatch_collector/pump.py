"""Moves what the journal holds into the engine, one batch at a time, each exactly once; and keeps the engine up."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import structlog

from hopwatch_collector.errors import EngineUnavailable, PermanentError
from hopwatch_collector.journal import BatchLog, Chunk, Journal, Stretch
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.quarantine import Quarantine
from hopwatch_collector.receive.mend import mend
from hopwatch_collector.settings import Settings

_log = structlog.get_logger("hopwatch.pump")

CHECKPOINT_S = 10.0
CHECKPOINT_BATCHES = 64
"""A checkpoint at the latest after so many batches: the engine recognises a batch sent again only among the last ones."""
_MAINTAIN_S = 1.0
_IDLE_S = 0.5
_EMPTY_REQUEST = b"\x0a\x00"
"""An ExportTraceServiceRequest with one resource and no spans."""
_BACKOFF_S = (0.1, 10.0)
_MAX_BATCHES_IN_ONE = 10
"""When the engine is behind, an insert takes up to so many times the usual batch: larger ones cost less per span."""
_MAX_BATCH_BYTES = 96 << 20
"""Bytes from which on an insert takes no more requests: ten usual batches have as many, and the engine's memory follows from them."""
_DUTY = 3.0
"""Small batches leave the engine idle for so many times as long as the last insert took, up to `_MAX_LINGER_S`."""
_WATCHED_DUTY = 1.0
"""The same while somebody looks at a live view, who waits for every second of it."""
_MAX_LINGER_S = 1.0


class Audience(Protocol):
    """Whoever watches what comes in. Safe from any thread; must not raise or block."""

    @property
    def viewers(self) -> int:
        """How many watch."""

    def news(self) -> None:
        """There is more to be seen."""


class Store(Protocol):
    """Of the engine's client, what the pump calls. All of it blocks."""

    def insert_otlp(self, payload: bytes, token: str) -> None:
        """Inserts one OTLP request; a token seen before inserts nothing.

        Raises PermanentError where the engine refuses the bytes, RetryableError where it could not be asked.
        """

    def maintain(self) -> None:
        """Whatever the store has to do from time to time."""


class Pump:
    """The threads between journal and engine. `start` and `stop` once each; `stop` is safe without `start`."""

    def __init__(
        self,
        journal: Journal,
        log: BatchLog,
        store: Store,
        quarantine: Quarantine,
        settings: Settings,
        metrics: Metrics,
        sync: Callable[[], None],
    ) -> None:
        """`sync` makes durable what the engine has written so far."""
        self._journal = journal
        self._log = log
        self._store = store
        self._quarantine = quarantine
        self._batch_spans = settings.batch_spans
        self._linger_s = settings.linger
        self._metrics = metrics
        self._sync = sync
        self._position = log.checkpointed
        self._spans = 0
        self._insert_s = 0.0
        self._stopping = threading.Event()
        self._give_up_at = float("inf")
        self._checkpoint_due = time.monotonic() + CHECKPOINT_S
        self.failure = ""
        """Why the engine takes nothing right now; empty when it does. Read by the health check."""
        self.audience: Audience | None = None
        """Told whenever queries may see more than before; while it watches, spans wait less."""
        metrics.journal_backlog.set_function(lambda: self.backlog_bytes)
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)
        # A thread of its own: upkeep may take seconds, and spans must not wait for it to be seen.
        self._upkeep = threading.Thread(target=self._keep_up, name="upkeep", daemon=True)

    @property
    def backlog_bytes(self) -> int:
        """Bytes acknowledged and not yet in the engine."""
        return max(0, self._journal.durable - self._position)

    def start(self) -> None:
        self._thread.start()
        self._upkeep.start()

    def stop(self, drain_s: float) -> None:
        """Gives the rest to the engine, for at most about `drain_s` seconds; what remains waits for the next start."""
        self._give_up_at = time.monotonic() + drain_s
        self._stopping.set()
        self._journal.hurry()
        for thread in (self._thread, self._upkeep):
            if thread.ident is not None:
                thread.join()

    def _run(self) -> None:
        try:
            self._resume()
            while not self._given_up():
                if self._journal.wait(self._position, _IDLE_S):
                    self._ripen()
                    self._next_batch()
                elif self._stopping.is_set():
                    break
                if self._checkpoint_wanted():
                    self._checkpoint()
            self._checkpoint()
        except Exception as error:
            self.failure = f"the pump has ended: {error!r}"
            _log.exception("pump ended")
            raise

    def _given_up(self) -> bool:
        return self._stopping.is_set() and time.monotonic() > self._give_up_at

    def _resume(self) -> None:
        """Sends the batches again whose outcome is unknown, with the same boundaries and so the same tokens."""
        if self._log.missing:
            lost = [(stretch.start, stretch.end) for stretch in self._log.missing]
            _log.warning(
                "batches without a line in the log of batches are given to the engine", positions=lost
            )
        for stretch in tuple(self._log.unconfirmed):
            if not self._send_again(stretch):
                return

    def _send_again(self, stretch: Stretch) -> bool:
        """Whether the engine has a stretch now. A batch lies in one segment; a stretch whose batches were not noted, perhaps in several."""
        position = stretch.start
        while position < stretch.end:
            chunk = self._journal.read(position, end=stretch.end)
            if chunk is None:
                break
            # The batch reaches to where it was to reach, though its last records may be damaged.
            end = (
                chunk.stretch.end
                if self._journal.lies_between(chunk.stretch.end, stretch.end)
                else stretch.end
            )
            if self._given_up() or not self._insert(replace(chunk, stretch=Stretch(position, end))):
                return False
            position = end
        self._position = max(self._position, stretch.end)
        return True

    def _ripen(self) -> None:
        """Lets a small batch wait for more. What an earlier run left behind has waited long enough."""
        if self._position < self._journal.recovered:
            return
        watched = self.audience is not None and self.audience.viewers > 0
        duty = _WATCHED_DUTY if watched else _DUTY
        linger = max(self._linger_s, min(duty * self._insert_s, _MAX_LINGER_S))
        self._journal.wait_spans(self._spans + self._batch_spans, linger)

    def _next_batch(self) -> None:
        chunk = self._journal.read(
            self._position, max_spans=self._batch_spans * _MAX_BATCHES_IN_ONE, max_bytes=_MAX_BATCH_BYTES
        )
        if chunk is not None and self._retrying(lambda: self._log.begin(chunk.stretch), "batch log"):
            self._insert(chunk)

    def _insert(self, chunk: Chunk) -> bool:
        """Whether the engine (or the quarantine) has it now; False when stopping ended the attempts."""
        if chunk.records and not self._retrying(lambda: self._insert_or_mend(chunk), "insert"):
            return False
        if chunk.stretch.end > self._journal.recovered:
            self._spans += chunk.spans
        self._position = chunk.stretch.end
        if self.audience is not None:
            self.audience.news()
        return True

    def _insert_or_mend(self, chunk: Chunk) -> None:
        """One insert as received; where the engine refuses it, one in the plainest form, under the same token.

        Safe: the engine parses all of a batch before it stores any of it.
        """
        try:
            self._insert_once(chunk)
        except PermanentError as error:
            _log.warning("batch refused", position=chunk.stretch.start, spans=chunk.spans, error=str(error))
            self._insert_or_split(replace(chunk, payload=mend(chunk.payload)))

    def _insert_or_split(self, chunk: Chunk) -> None:
        """One insert; where the engine refuses it, its halves, down to the request that is refused by itself."""
        try:
            self._insert_once(chunk)
        except PermanentError as error:
            if len(chunk.records) == 1:
                self._set_aside(chunk, error)
                return
            middle = len(chunk.records) // 2
            for half in (chunk.records[:middle], chunk.records[middle:]):
                part = self._journal.read(half[0].start, end=half[-1].end)
                if part is not None and part.records:
                    self._insert_or_split(replace(part, payload=mend(part.payload)))

    def _insert_once(self, chunk: Chunk) -> None:
        began = time.monotonic()
        self._store.insert_otlp(chunk.payload, self._log.token(chunk.stretch))
        self._insert_s = time.monotonic() - began
        self._metrics.engine_insert.observe(self._insert_s)
        self._metrics.engine_batches.inc()
        self._metrics.engine_spans.inc(chunk.spans)

    def _set_aside(self, chunk: Chunk, error: PermanentError) -> None:
        self._require_sane_engine()
        self._quarantine.keep(chunk.stretch, chunk.payload)
        self._metrics.quarantined.inc(chunk.spans)
        _log.error("request quarantined", position=chunk.stretch.start, spans=chunk.spans, error=str(error))

    def _require_sane_engine(self) -> None:
        """Before a request is blamed: an engine that refuses even a request without spans is itself at fault."""
        try:
            self._store.insert_otlp(_EMPTY_REQUEST, f"{self._log.journal_id}-probe")
        except PermanentError as error:
            raise EngineUnavailable(f"the engine refuses everything: {error}") from error

    def _retrying(self, action: Callable[[], None], what: str) -> bool:
        """Repeats until it succeeds, with growing pauses; False when stopping ends it first."""
        shortest, longest = _BACKOFF_S
        pause = shortest
        while True:
            try:
                action()
            except Exception as error:  # noqa: BLE001 - whatever it is, the journal keeps the data and health says so
                self.failure = f"{what} failed: {error}"
                self._metrics.engine_failures.labels(what.replace(" ", "_")).inc()
                _log.warning("will try again", what=what, error=str(error), pause_s=pause)
            else:
                self.failure = ""
                return True
            if self._stopping.wait(pause):
                if self._given_up():
                    return False
                pause = shortest
                time.sleep(pause)
            pause = min(pause * 2, longest)

    def _checkpoint_wanted(self) -> bool:
        many = len(self._log.unconfirmed) >= CHECKPOINT_BATCHES
        return many or self._journal.crowded or time.monotonic() >= self._checkpoint_due

    def _checkpoint(self) -> None:
        """Notes that the engine has everything so far, on its disk; only then does the journal let go of it."""
        self._checkpoint_due = time.monotonic() + CHECKPOINT_S
        if self._position == self._log.checkpointed:
            return
        try:
            self._sync()
            self._log.checkpoint(self._position)
            self._journal.release(self._position)
        except OSError as error:
            self._metrics.engine_failures.labels("checkpoint").inc()
            _log.warning("checkpoint failed", error=str(error))

    def _keep_up(self) -> None:
        while not self._stopping.wait(_MAINTAIN_S):
            try:
                self._store.maintain()
            except Exception as error:  # noqa: BLE001 - upkeep comes round again; it must not end its thread
                self._metrics.engine_failures.labels("maintain").inc()
                _log.warning("upkeep failed", error=str(error))
