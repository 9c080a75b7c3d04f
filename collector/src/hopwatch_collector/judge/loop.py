"""The judge at work: finds what is to be judged, judges it, writes what changed; again and again."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import polars as pl
import structlog

from hopwatch_collector.errors import EngineUnavailable
from hopwatch_collector.judge import ledger
from hopwatch_collector.judge.changes import MOST, Changes, chunks
from hopwatch_collector.judge.decision import Decision, decisions
from hopwatch_collector.judge.evaluation import Offsets, evaluate
from hopwatch_collector.judge.frames import SECOND, shaped_or_empty
from hopwatch_collector.judge.reading import Session as Reads

_log = structlog.get_logger("hopwatch.judge")

BATCH: Final = 40_000
"""Messages judged at once."""
_IDLE_S: Final = 1.0
"""Pause between two looks while something comes in."""
_QUIET_S: Final = 5.0
"""Pause while nothing does, where other collectors may write into the same store; and where nobody else can."""
_ALONE_S: Final = 15.0
_DUTY: Final = 2.0
"""A judge rests for so many times as long as a look took, so that it leaves the engine to others, but never longer than this."""
_LONGEST_S: Final = 1.0
_AUDIT_EVERY_S: Final = 60.0
_AUDITED: Final = 20
_DECIDED: Final = ["message", "receiver", "cause"]
_STEP_S: Final = 0.02
_MARGIN_MS: Final = 1_000
_REMEMBER_MS: Final = 10_000
_BACKOFF_S: Final = (0.5, 10.0)


class Session(Reads, ledger.Writer, Protocol):
    """Of the store, what the judge takes."""


class Store(Protocol):
    """Of the store, what the judge calls."""

    @property
    def written(self) -> int:
        """How many times something was written by this process; grows."""

    @property
    def overlap_ms(self) -> int:
        """For how long after its moment a row that others write may become visible."""

    def complete_until(self) -> int:
        """Return the moment (ms) up to which all that this process was writing can be read."""

    def judging(self) -> AbstractContextManager[Session]:
        """The judge's session."""


@dataclass(frozen=True, slots=True)
class Tick:
    """What one look came to."""

    judged: int = 0
    """Messages judged."""
    changed: int = 0
    """Rows written."""
    more: bool = False
    """Whether more waits to be judged."""
    missed: int = 0
    """Deliveries that a sample judged otherwise though no news of them had been seen."""


class Judge:
    """Judges what changed. `tick` may be called by one thread at a time; `start` has a thread of its own do so."""

    def __init__(
        self,
        store: Store,
        offsets: Offsets,
        deadline_s: float = 30.0,
        grace_s: float = 2.0,
        clock: Callable[[], float] = time.time,
        ours: Callable[[], bool] = lambda: True,
    ) -> None:
        """`deadline_s`: seconds after which what waits is overdue and what is in flight is stuck; `clock`: seconds since 1970.

        `ours`: whether to judge falls to us right now, where several may.
        """
        self._ours = ours
        self._store = store
        self._offsets = offsets
        self._deadline_s = deadline_s
        self._grace_s = grace_s
        self._clock = clock
        self._settings = f"deadline={deadline_s:g} grace={grace_s:g}"
        self._changes: Changes | None = None
        self._upto = 0
        self._followed = 0
        """Up to when nothing that was learnt still waits to be followed up."""
        self._noted = 0
        self._number = 0
        self._pending: dict[bytes, None] = {}
        self._written = -1
        self._next_due = 0
        self._wall_ahead = _wall_ahead()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="judge", daemon=True)
        self.on_news: Callable[[], None] | None = None
        """Called whenever deliveries changed; must not raise or block."""
        self._audit_due = time.monotonic() + _AUDIT_EVERY_S
        self._salt = 0
        self.on_tick: Callable[[Tick], None] | None = None
        """Told what each look came to, for metrics; must not raise."""
        self.trouble = ""
        """Why it cannot judge right now; empty when it can."""

    def start(self) -> None:
        """Judge in a thread of its own until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the batch in hand; safe without `start`."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def wake(self) -> None:
        """There is something new to be judged. Safe from any thread."""
        self._wake.set()

    def tick(self) -> Tick:
        """Look once and judge what is to be judged, a batch at most.

        Raises EngineUnavailable; then nothing is lost: the next look begins like that of a new process.
        """
        try:
            with self._store.judging() as session:
                return self._tick(session)
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        """Begin the next look like that of a new process."""
        self._changes = None
        self._upto = self._followed
        self._next_due = 0

    def _tick(self, session: Session) -> Tick:
        changes = self._begin(session)
        now = int(self._clock() * SECOND)
        written = self._store.written
        batch, upto, more = self._look(changes, now, self._store.complete_until())
        while self._pending and len(batch) < BATCH:
            batch.append(self._pending.popitem()[0])
        judged = list(dict.fromkeys(batch))
        changed = self._judge(session, judged, now) if judged else 0
        self._upto = upto
        if not (self._pending or changes.concerns):
            self._followed = upto
        self._remember(session)
        audited = not more and self._followed == upto and time.monotonic() >= self._audit_due
        missed = self._audit(session, now) if audited else 0
        if not more:
            self._written = written
        return Tick(len(judged), changed, more or bool(self._pending or changes.concerns), missed)

    def decisions(self, message: bytes) -> Mapping[str, Decision]:
        """Return how each delivery of a message (16 bytes) is decided now, by receiver. Writes nothing; any thread may ask."""
        now = int(self._clock() * SECOND)
        with self._store.judging() as session:
            session.look()
            return decisions(session, message, self._offsets, now, self._deadline_s, self._grace_s)

    def settle(self, most: int = 1_000) -> int:
        """Look until nothing is left to be judged now; return how many rows were written. For tests and tools."""
        rows = 0
        for _ in range(most):
            tick = self.tick()
            rows += tick.changed
            if not tick.more:
                break
        return rows

    def _begin(self, session: Session) -> Changes:
        """At the first look: go on where the last judge stopped, and make both tables agree if it was stopped in the midst."""
        session.look()
        if self._changes is None:
            found = session.frame("progress", {})
            changes = Changes(session, self._store.overlap_ms)
            if not found.is_empty():
                self._upto, self._number = int(found["upto"][0]), int(found["number"][0])
                self._noted = self._followed = self._upto
                unsure = found["messages"][0].to_list()
                for some in chunks(unsure, BATCH):
                    _reconcile(session, some)
                self._pending |= dict.fromkeys(unsure)
                if found["settings"][0] != self._settings:
                    changes.all_open()
            self._changes = changes
        return self._changes

    def _look(self, changes: Changes, now: int, until: int) -> tuple[list[bytes], int, bool]:
        """Return messages with new facts, up to when that is all of them, whether there are more; put others into pending."""
        self._follow_clock()
        touched, upto, more = changes.touched(self._upto, until, BATCH)
        self._pending |= dict.fromkeys(changes.look(self._upto, now))
        self._pending |= dict.fromkeys(changes.skewed(self._offsets(now), now))
        if now >= self._next_due and len(self._pending) < BATCH:
            due = changes.due(now)
            self._pending |= dict.fromkeys(due)
            self._next_due = changes.next_due(now) if len(due) < MOST else 0
        while len(self._pending) < BATCH and (concerned := changes.concerned()):
            self._pending |= dict.fromkeys(concerned)
        return touched, upto, more

    def _follow_clock(self) -> None:
        """Begin further back where the host's clock was set back: what is learnt now bears moments that lie behind us."""
        ahead = _wall_ahead()
        back_s = self._wall_ahead - ahead
        self._wall_ahead = ahead
        if back_s > _STEP_S:
            _log.warning("the clock was set back", seconds=round(back_s, 3))
            self._upto -= int(back_s * 1000) + _MARGIN_MS

    def _evaluated(self, session: Session, messages: Sequence[bytes], now: int) -> pl.DataFrame:
        """The deliveries of the messages as everything stands."""
        kept = self._changes.kept if self._changes else None
        return evaluate(session, messages, self._offsets, now, self._deadline_s, self._grace_s, kept)

    def _judge(self, session: Session, messages: Sequence[bytes], now: int) -> int:
        judged = self._evaluated(session, messages, now)
        changed = ledger.changes(_live(session), judged)
        rows = changed.signed()
        if rows.is_empty():
            return 0
        if not self._ours():
            raise EngineUnavailable("another collector judges by now")
        # Of two tables, a crash may come between the one and the other.
        unsure = ledger.of_attention(rows)["message"].unique().to_list()
        if unsure:
            self._note(session, unsure)
        ledger.write(session, rows)
        soonest: Any = changed.given["next_at"].min()
        self._next_due = min(self._next_due, soonest or self._next_due)
        return len(rows)

    def _audit(self, session: Session, now: int) -> int:
        """Judge some of what is open again though nothing is known to have changed; return how many came out otherwise."""
        self._audit_due = time.monotonic() + _AUDIT_EVERY_S
        self._salt += 1
        found = session.frame("open_sample", {"now": now, "salt": self._salt, "top": _AUDITED})
        messages = [] if found.is_empty() else found["message"].unique().to_list()
        if not messages:
            return 0
        judged = self._evaluated(session, messages, now)
        live = _live(session).select(*_DECIDED)
        missed = self._unheard(judged.select(*_DECIDED).join(live, on=_DECIDED, how="anti"))
        if len(missed):
            _log.warning(
                "deliveries judged otherwise though no news of them was seen",
                causes=sorted(missed["cause"].unique()),
            )
            self._judge(session, messages, now)
        return len(missed)

    def _unheard(self, otherwise: pl.DataFrame) -> pl.DataFrame:
        """Of what came out otherwise, return what no news can have been the reason of: some may have come since the last look."""
        if otherwise.is_empty() or self._changes is None:
            return otherwise
        if self._store.complete_until() < int(time.time() * 1000) - 1:
            return otherwise.clear()  # something is being written: what that is will be seen at the next look
        return otherwise.filter(~pl.col("message").is_in(list(self._changes.learnt_since(self._upto))))

    def _remember(self, session: Session) -> None:
        """Write down from time to time how far everything has been judged, so that the next start need not begin further back."""
        if self._followed - self._noted >= _REMEMBER_MS:
            self._note(session, [])

    def _note(self, session: Session, messages: Sequence[bytes]) -> None:
        self._number += 1
        session.write("judge_progress", self._progress(messages))
        self._noted = self._followed

    def _progress(self, messages: Sequence[bytes]) -> pl.DataFrame:
        """A row of `judge_progress`: what is about to be written."""
        return pl.DataFrame(
            {
                "judge": ["deliveries"], "upto": [self._followed], "messages": [messages], "settings": [self._settings],
                "number": [self._number],
            },
            schema={
                "judge": pl.String, "upto": pl.Int64, "messages": pl.List(pl.Binary), "settings": pl.String,
                "number": pl.UInt64,
            },
        ).with_columns(upto=pl.col("upto").cast(pl.Datetime("ms", "UTC")))  # fmt: skip

    def _run(self) -> None:
        shortest, longest = _BACKOFF_S
        pause = shortest
        while not self._stopping.is_set():
            self._wake.clear()
            if not self._ours():
                self._forget()
                self._stopping.wait(_IDLE_S)
                continue
            began = time.monotonic()
            try:
                tick = self.tick()
            except Exception as error:  # noqa: BLE001 - nothing is lost: what was not judged is still to be judged
                self.trouble = f"{type(error).__name__}: {error}"
                _log.warning("deliveries not judged, trying again", error=self.trouble, pause_s=pause)
                self._stopping.wait(pause)
                pause = min(pause * 2, longest)
                continue
            self.trouble, pause = "", shortest
            if self.on_tick is not None:
                self.on_tick(tick)
            if tick.changed and self.on_news is not None:
                self.on_news()
            if not tick.more:
                self._rest(time.monotonic() - began)

    def _rest(self, took_s: float) -> None:
        """Wait until there may be something to do, and a little longer, so that it is worth doing."""
        self._stopping.wait(min(max(_DUTY * took_s, 0.1), _LONGEST_S))
        until = time.monotonic() + (_QUIET_S if self._store.overlap_ms else _ALONE_S)
        while not self._stopping.is_set() and self._store.written == self._written:
            due_s = self._next_due / SECOND - self._clock()
            left = min(until - time.monotonic(), max(due_s, 0.05))
            if left <= 0 or due_s <= 0:
                return
            self._wake.wait(min(left, _IDLE_S))
            self._wake.clear()


def _wall_ahead() -> float:
    """How far the host's clock is ahead of one that nobody sets, in seconds."""
    return time.time() - time.monotonic()


def _live(session: Session) -> pl.DataFrame:
    """The current rows of the messages picked, in full."""
    return ledger.live(shaped_or_empty(session.frame("rows_of_messages", {}), ledger.SIGNED))


def _reconcile(session: Session, messages: Sequence[bytes]) -> None:
    """Make `attention` say of some messages what `deliveries` says: a crash may have come between the two."""
    session.pick(messages)
    wanted = ledger.wanted_attention(_live(session)).with_columns(rows=pl.lit(1, pl.Int8))
    found = session.frame("attention_written", {})
    columns = [name for name in wanted.columns if name != "rows"]
    written = shaped_or_empty(found, dict(wanted.schema))
    both = pl.concat([wanted, written.with_columns(rows=-pl.col("rows"))])
    missing = both.group_by(columns).agg(pl.col("rows").sum()).filter(pl.col("rows") != 0)
    ledger.write_attention(session, _repeated(missing))


def _repeated(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each that is missing (sign 1) or too many (sign -1)."""
    return (
        rows.with_columns(sign=pl.col("rows").sign().cast(pl.Int8), times=pl.col("rows").abs())
        .select(pl.exclude("rows", "times").repeat_by("times"))
        .explode([name for name in rows.columns if name != "rows"] + ["sign"])
        if not rows.is_empty()
        else rows
    )
