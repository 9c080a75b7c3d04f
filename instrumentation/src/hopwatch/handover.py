"""Messages handed to code we cannot see return from: iterators, fetches, gets. When do their hops end?

A hop lasts until its message is settled, until the task that got it is back for more from the same source,
until the source closes, or until nobody holds the message any longer, whichever comes first.

That a task came back shows that its processing ended only where nobody else in the process has the message then (holding.py).
What was handed on, never begun, or left by an exception that was caught elsewhere ends with that word instead (`Ending`).
"""

import asyncio
import dis
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any, Final, TypeVar
from weakref import ref

from hopwatch.conventions import Ending, SettleOutcome
from hopwatch.faults import swallowed
from hopwatch.forks import after_fork
from hopwatch.holding import Variable, is_held, kept_payloads
from hopwatch.recorder import ProcessHop
from hopwatch.wrapping import Patches, guarded

M = TypeVar("M")

_running_loop: Final = asyncio._get_running_loop
"""The loop this runs in, None for none; documented for implementers of loops, and free of an exception."""

WORKED_S: Final = 0.001
"""Seconds a loop body must have taken to count as the processing of its message (see `Batch`)."""


class Progress:
    """How far a loop over a batch has come."""

    __slots__ = ("at", "batch", "elsewhere", "failed", "left")

    def __init__(self, batch: "Batch[Any]") -> None:
        self.batch = ref(batch)
        self.at = -1
        """The message the loop is at, or was left at."""
        self.left = False
        """Whether it was left there."""
        self.failed = False
        """Whether somebody said that the processing of a message failed."""
        self.elsewhere = False
        """Whether messages were worked on in another order than the loop's: how far that came says nothing then."""

    @property
    def stopped(self) -> bool:
        """Whether somebody who worked through the batch did not come to its end."""
        return self.left or self.failed


JUST_GOT: Final = 2
"""References to what was just got that are its getter's: the variable's, and the call's that counts them."""

_LEFT: Final = 1
"""An exception left the loop at it."""
_TOLD: Final = 2
"""Somebody said where its processing begins and ends."""
_WORKING: Final = 4
"""And that goes on."""
_AUTO: Final = 8
"""It was let go of with no acknowledgement due."""


class _Handed(ref[Any]):
    """A message in somebody's hands, without holding it, and its hop."""

    __slots__ = ("beside", "hop", "kept", "key", "loop", "noted", "number", "progress")

    key: int
    hop: ProcessHop
    loop: asyncio.AbstractEventLoop | None
    """Where the hop is to end if the message is dropped."""
    progress: Progress | None
    """The loop over the batch it is in, None for what came alone."""
    number: int
    """Where it lies in its batch."""
    kept: int
    """How many references the library keeps to what was sent with it."""
    beside: int
    """How many references there are to itself that are nobody's who works on it."""
    noted: int
    """What else is known of it: `_LEFT` and its like."""

    def drop(self, references: int) -> None:
        """Note that the loop keeps so many references no longer."""
        self.beside -= references

    def let_go(self, ending: Ending, *, keep_current: bool = False) -> None:
        """End its hop with a word for what is not known of it."""
        if self.hop.outcome is SettleOutcome.AUTO:
            self.noted |= _AUTO
        self.hop.let_go(ending, keep_current=keep_current)


class _Called(_Handed):
    """A message in the hands of a callback, which returns: then its hop ends."""

    __slots__ = ()


class _Source(ref[Any]):
    """A subscription, queue or consumer, without holding it, and what tasks took from it since they last came back."""

    __slots__ = ("key", "takers")

    key: int
    takers: "dict[int, Taker]"


class Taker(ref[Any]):
    """A task, without holding it, and what it has in hand from one source."""

    __slots__ = ("loop", "messages", "variable")

    loop: asyncio.AbstractEventLoop | None
    messages: list[_Handed]
    variable: Variable | None
    """Where its code was seen to keep the message it has in hand."""

    def over(self) -> bool:
        """Whether the task has ended."""
        task = self()
        return task is None or (isinstance(task, asyncio.Task) and task.done())


class Handovers:
    """All messages now in the hands of this process, found by identity (messages are often not hashable)."""

    def __init__(self) -> None:
        self._by_message: dict[int, _Handed] = {}
        self._by_source: dict[int, _Source] = {}
        self._dropped: deque[_Handed] = deque()
        self._woken: asyncio.AbstractEventLoop | None = None
        """The loop that will see to what was dropped: one call is enough, each is a write to its pipe."""

    def called(self, message: Any, hop: ProcessHop) -> None:
        """Note a message handed to a callback: whoever called it ends its hop."""
        try:
            if self._dropped:
                self._drain()
            self._note(_Called(message, self._gone), message, hop, None)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("handover", fault)

    def handed_on(self, message: Any, hop: ProcessHop) -> None:
        """Note that a callback returned while something else in the process still has its message."""
        handed = self._by_message.get(id(message))
        if handed is None or handed.hop is not hop:
            handed = _Handed(message, self._gone)
            self._note(handed, message, hop, None)
        if not hop.ended and not handed.noted & _WORKING:
            handed.let_go(Ending.HELD)

    def gave(
        self, source: Any, messages: Iterable[tuple[Any, ProcessHop]], batch: "Batch[Any] | None" = None
    ) -> None:
        """Note messages given to the current task by `source` (a subscription, a queue, a consumer), as a batch or one."""
        try:
            taker = self._taker(source)
            for number, (message, hop) in enumerate(messages):
                self.give(taker, message, hop, batch, number)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("handover", fault)

    def passed(self, message: Any, references: int) -> None:
        """Note how many references there are to a message that was just got, besides the variable of whoever got it.

        One that came as the result of a future is kept by the loop until its next turn.
        """
        handed = self.handed(message) if references > 0 else None
        if handed is not None and handed.loop is not None:
            handed.beside += references
            handed.loop.call_soon(handed.drop, references)

    def give(
        self,
        taker: Taker,
        message: Any,
        hop: ProcessHop,
        batch: "Batch[Any] | None" = None,
        number: int = 0,
        *,
        beside: int = 0,
    ) -> None:
        """Note a message given to the task that came `back`: alone, or as the one of that number in a batch.

        `beside`: how many references the library keeps to it.
        """
        handed = _Handed(message, self._gone)
        self._note(handed, message, hop, taker.loop)
        if batch is not None:
            handed.progress, handed.number = batch.progress, number
        handed.kept, handed.beside = kept_payloads(message), beside
        taker.messages.append(handed)

    def _note(
        self, handed: _Handed, message: Any, hop: ProcessHop, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        handed.key = key = id(message)
        handed.hop, handed.loop = hop, loop
        handed.progress = None
        handed.kept = handed.beside = handed.noted = 0
        self._by_message[key] = handed

    def back(self, source: Any, error: BaseException | None = None, *, forget: bool = False) -> Taker | None:
        """Note that the current task is back for more: it is done with what it got from `source` before.

        So is a task that has ended, such as the one `asyncio.wait_for` runs a fetch in. What ends here is not found by
        its message any more where the caller says `forget`: nobody settles it later.
        """
        try:
            taker = self._taker(source)
            if taker.messages:
                self._done(taker, error, forget)
            takers = self._by_source[id(source)].takers
            if len(takers) > 1:
                for key, other in [*takers.items()]:
                    if other is taker or not other.over():
                        continue
                    del takers[key]
                    self._done(other, error, forget)
            return taker
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("handover", fault)
            return None

    def _taker(self, source: Any) -> Taker:
        """Return what the current task has in hand from `source`."""
        if self._dropped:
            self._drain()
        loop = _running_loop()
        task = _NO_TASK if loop is None else asyncio.current_task(loop) or _NO_TASK
        known = self._by_source.get(id(source))
        if known is None or known() is not source:
            known = self._source(source)
        taker = known.takers.get(id(task))
        if taker is None or taker() is not task:
            over = taker  # a task that is gone, whose address this one has got: it will not come back itself
            taker = known.takers[id(task)] = Taker(task)
            taker.loop, taker.messages, taker.variable = loop, [] if over is None else over.messages, None
            if isinstance(task, asyncio.Task):
                task.add_done_callback(_Watch(self, taker))
        return taker

    def _done(self, taker: Taker, error: BaseException | None, forget: bool) -> None:
        messages, taker.messages = taker.messages, []
        batch = len(messages) > 1
        unread = _unread(messages) if batch else ()
        for handed in messages:
            hop = handed.hop
            if hop.ended:
                hop.detach()  # settled, and still the current one for what its handler had to do
            elif handed.noted & _WORKING:
                continue  # somebody is at it, and will say how that ends
            elif id(handed) in unread:  # a message that cannot be hashed leaves its reference so
                handed.let_go(Ending.UNREAD)
            elif error is not None and not _is_past(handed):
                hop.end(error)
            elif handed.noted & _LEFT:
                handed.let_go(Ending.LEFT)
            elif self._is_held(taker, handed, batch=batch):
                handed.let_go(Ending.HELD)
                continue  # whoever has it may still say how that ends
            else:
                hop.end()
            if forget and self._by_message.get(handed.key) is handed:
                del self._by_message[handed.key]

    @staticmethod
    def _is_held(taker: Taker, handed: _Handed, *, batch: bool) -> bool:
        message = handed()
        if message is None:
            return False
        in_batch = handed.progress is not None and handed.progress.batch() is not None
        held, taker.variable = is_held(
            message, taker.variable, kept=handed.kept, beside=handed.beside + in_batch, lists=batch
        )
        return held

    @guarded
    def over(self, taker: Taker, error: BaseException) -> None:
        """Note that a task ended with an exception, which left the loop at what it had in hand."""
        self._done(taker, error, forget=False)

    @guarded
    def left(self, source: Any) -> None:
        """Note that an exception leaves the current task's loop over a source; who catches it is not known."""
        for handed in self._taker(source).messages:
            handed.noted |= _LEFT

    @guarded
    def closed(self, source: Any, error: BaseException | None = None) -> None:
        """Note that `source` gives nothing more; `error` is what the current task is failing with, if it is."""
        self.back(source, error)
        known = self._by_source.get(id(source))
        if known is None or known() is not source:
            return
        del self._by_source[id(source)]
        for taker in known.takers.values():
            if taker.over():
                self._done(taker, None, forget=False)
            for handed in taker.messages:
                if not handed.hop.ended and not handed.noted & _WORKING:
                    handed.let_go(Ending.HELD)  # another task is at it
                handed.hop.detach()

    @guarded
    def of(self, message: Any) -> ProcessHop | None:
        """Return the hop of a message, ended or not, None if it was not handed out here."""
        handed = self.handed(message)
        return handed.hop if handed is not None else None

    def handed(self, message: Any) -> _Handed | None:
        """Return what is known of a message in somebody's hands, None if it was not handed out here."""
        handed = self._by_message.get(id(message))
        return handed if handed is not None and handed() is message else None

    def settled(self, message: Any, outcome: SettleOutcome, reason: str = "") -> None:
        """Note how a message was settled; a hop whose end cannot be seen otherwise ends here."""
        handed = self._by_message.get(id(message))
        if handed is None or handed() is not message:
            return
        handed.hop.settled(outcome, reason)  # which raises nothing, nor does `end`
        if type(handed) is not _Called:
            handed.hop.end(keep_current=True)

    def single(self, source: Any) -> list[tuple[Any, ProcessHop]]:
        """Return the messages that tasks took from `source` one by one, and have not come back from."""
        alone = [messages[0] for messages in self._taken(source) if len(messages) == 1]
        return [(message, handed.hop) for handed in alone if (message := handed()) is not None]

    def taken_from(self, source: Any) -> list[tuple[Any, ProcessHop]]:
        """Return all messages that tasks took from `source`, and have not come back from."""
        taken = [handed for messages in self._taken(source) for handed in messages]
        return [(message, handed.hop) for handed in taken if (message := handed()) is not None]

    def in_hand(self) -> list[tuple[Any, ProcessHop]]:
        """Return the messages that are still held by somebody, with their hops."""
        held = ((handed(), handed.hop) for handed in list(self._by_message.values()))
        return [(message, hop) for message, hop in held if message is not None]

    def _source(self, source: Any) -> _Source:
        known = self._by_source[id(source)] = _Source(source, self._forget)
        known.key, known.takers = id(source), {}
        return known

    def _taken(self, source: Any) -> list[list[_Handed]]:
        known = self._by_source.get(id(source))
        if known is None or known() is not source:
            return []
        return [taker.messages for taker in known.takers.values()]

    def _forget(self, gone: Any) -> None:
        source: _Source = gone
        if self._by_source.get(source.key) is source:
            del self._by_source[source.key]

    def after_fork(self) -> None:
        """In a forked child what the parent has in hand is the parent's: it ends those hops, once."""
        self.__init__()  # type: ignore[misc]  # the one honest way to say: as new

    def _gone(self, gone: Any) -> None:
        """Note that nobody holds a message any longer."""
        handed: _Handed = gone
        if self._by_message.get(handed.key) is not handed:
            return
        del self._by_message[handed.key]
        if handed.hop.ended or type(handed) is _Called:
            return
        # Not ended right here: the garbage collector may run inside an exporter that holds its lock.
        self._dropped.append(handed)
        loop = handed.loop
        if loop is not None and loop is not self._woken and not loop.is_closed():
            self._woken = loop
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._woken = None
        self._drain()

    def _drain(self) -> None:
        while self._dropped:
            handed = self._dropped.popleft()
            if handed.noted & _LEFT:
                handed.let_go(Ending.LEFT)
            elif handed.progress is not None and handed.progress.stopped and _is_unreached(handed):
                handed.let_go(Ending.UNREAD)
            else:
                handed.hop.end()


handovers: Final = Handovers()
"""The process's messages in hand."""

after_fork(handovers.after_fork)


class Batch(list[M]):
    """A fetched list that makes each message's hop current while a loop is at it.

    With `ends`, moving on ends the hop, provided the loop's body took time: a comprehension that only collects
    the messages does not process them.
    """

    def __init__(self, messages: Iterable[M], *, ends: bool) -> None:
        super().__init__(messages)
        self._ends = ends
        self.progress = Progress(self)

    def __iter__(self) -> Iterator[M]:
        """Yield each message as the current one."""
        progress = self.progress
        progress.left = False
        for number, message in enumerate(super().__iter__()):
            handed = handovers.handed(message)
            if handed is None:
                yield message
                continue
            progress.at = number
            handed.noted &= ~_LEFT
            hop = handed.hop
            hop.attach()
            began = time.monotonic()
            try:
                yield message
            except GeneratorExit:
                self._left(handed, sys._getframe(1))
                raise
            else:
                if self._ends and time.monotonic() - began >= WORKED_S and not hop.ended:
                    self._past(message, handed)
            finally:
                hop.detach()
        progress.at = len(self)

    def _left(self, handed: _Handed, frame: FrameType) -> None:
        """Note how a loop was left at a message; whoever only looked at the first ones was in none."""
        on_purpose = is_left_on_purpose(frame)
        self.progress.left = on_purpose or _is_in_loop(frame)
        if self.progress.left and not on_purpose:
            handed.noted |= _LEFT

    def _past(self, message: M, handed: _Handed) -> None:
        """End the hop of a message that the loop worked on, and has gone on from."""
        # Besides this list it is borne by two variables here and what numbers it; the variable of the loop is found by a scan.
        held, _ = is_held(message, None, kept=handed.kept, beside=handed.beside + 1, ours=3)
        if held:
            handed.let_go(Ending.HELD)
        else:
            handed.hop.end()


class Loop:
    """What an `async for` over a source goes through: it goes away with the loop, whichever way that is left."""

    __slots__ = ("_source", "_steps")

    def __init__(self, source: Any, steps: Any) -> None:
        """`steps` has the `__anext__` of a source of messages."""
        self._source = source
        self._steps = steps

    def __aiter__(self) -> "Loop":
        """Return itself."""
        return self

    def __anext__(self) -> Any:
        """Return what gives the next message."""
        return self._steps.__anext__()

    def __getattr__(self, name: str) -> Any:
        """Return what the iterator of the library has of that name."""
        return getattr(self._steps, name)

    def __del__(self) -> None:
        """Note how the loop was left."""
        try:
            on_purpose = is_left_on_purpose(sys._getframe(1))
        except Exception:  # noqa: BLE001 — nobody's code runs: the interpreter goes down
            return
        if not on_purpose:
            handovers.left(self._source)


def looping(
    patches: Patches, source: Callable[[Any], Any]
) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Return what replaces the `__aiter__` of iterators over `source(iterator)`, so that it is seen how a loop is left."""

    def make(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @wraps(original)
        def begin(iterator: Any) -> Any:
            steps = original(iterator)
            return Loop(source(iterator), steps) if patches.active else steps

        return begin

    return make


_DROPS: Final = frozenset({"POP_TOP", "POP_ITER", "FOR_ITER", "END_FOR", "END_ASYNC_FOR"})
"""Instructions by which code lets go of an iterator on purpose, by `break`, `return` or at its end."""


def is_left_on_purpose(frame: FrameType) -> bool:
    """Whether code that just let go of an iterator did so by an instruction of its own: else an exception made it."""
    code = frame.f_code.co_code
    at = frame.f_lasti
    return 0 <= at < len(code) and dis.opname[code[at]] in _DROPS


def _is_in_loop(frame: FrameType) -> bool:
    """Whether code is in the body of a `for`."""
    at = frame.f_lasti
    return any(
        step.opname == "FOR_ITER" and step.offset < at < step.argval
        for step in dis.get_instructions(frame.f_code)
    )


def _unread(messages: list[_Handed]) -> frozenset[int]:
    """Return by identity which messages of a batch nobody began with: whoever worked through it stopped before."""
    loops = {id(handed.progress): handed.progress for handed in messages if handed.progress is not None}
    if not any(progress.stopped for progress in loops.values()):
        return frozenset()
    return frozenset(id(handed) for handed in messages if _is_unreached(handed))


def _is_unreached(handed: _Handed) -> bool:
    """Whether nobody began with a message, given that somebody stopped."""
    progress = handed.progress
    if handed.noted & _TOLD or progress is None:
        return False
    if progress.elsewhere or progress.at < 0:
        return True  # the loop over it, if there was one, is not the one that stopped
    return progress.left and handed.number > progress.at


def _is_past(handed: _Handed) -> bool:
    """Whether a loop over its batch has gone on from a message: what fails then is not its processing."""
    progress = handed.progress
    return progress is not None and not progress.elsewhere and handed.number < progress.at


class _Watch:
    """Tells of a task that ended with an exception while it had messages in hand."""

    __slots__ = ("_hands", "_taker")

    def __init__(self, hands: Handovers, taker: Taker) -> None:
        self._hands = hands
        self._taker = taker

    def __call__(self, task: "asyncio.Task[Any]") -> None:
        """See how it ended."""
        if not self._taker.messages:
            return
        if task.cancelled():
            self._hands.over(self._taker, asyncio.CancelledError())
        elif (error := task._exception) is not None:  # to ask aloud silences "never retrieved"
            self._hands.over(self._taker, error)


@contextmanager
def processing(message: object) -> Iterator[None]:
    """Say where the processing of a message begins and ends, and show an exception that leaves it.

    For loops over consumers, whose body we cannot see fail, and for whatever a message is handed on to. Does nothing with
    a message that is not in hand.
    """
    handed = handovers.handed(message)
    if handed is None:
        yield
        return
    hop, progress = handed.hop, handed.progress
    if progress is not None and progress.at != handed.number:
        progress.elsewhere = True
    handed.noted |= _TOLD | _WORKING
    hop.attach()
    try:
        yield
    except BaseException as error:
        if progress is not None:
            progress.failed = True
        _worked(handed, error)
        raise
    else:
        _worked(handed, None)
    finally:
        handed.noted &= ~_WORKING
        hop.detach()


def _worked(handed: _Handed, error: BaseException | None) -> None:
    if handed.hop.ended:
        handed.hop.worked(error, auto=bool(handed.noted & _AUTO))
    else:
        handed.hop.end(error)


class Attempts:
    """Counts how often a message came again, where the broker only says that it did; remembers the last 10,000."""

    LIMIT: Final = 10_000

    def __init__(self) -> None:
        self._seen: OrderedDict[Hashable, int] = OrderedDict()

    def again(self, key: Hashable) -> int:
        """Return the attempt's number for a message handed over again: 2 the first time."""
        attempt = self._seen.pop(key, 1) + 1
        self._seen[key] = attempt
        if len(self._seen) > self.LIMIT:
            self._seen.popitem(last=False)
        return attempt


class _NoTask:
    """Stands for the task where there is none."""


_NO_TASK: Final = _NoTask()
