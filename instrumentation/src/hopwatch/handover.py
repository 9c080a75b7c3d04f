"""Messages handed to code we cannot see return from: iterators, fetches, gets. When do their hops end?

A hop lasts until its message is settled, until the task that got it is back for more from the same source,
until the source closes, or until nobody holds the message any longer, whichever comes first.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from weakref import ref

from hopwatch.conventions import SettleOutcome
from hopwatch.faults import swallowed
from hopwatch.forks import after_fork
from hopwatch.recorder import ProcessHop
from hopwatch.wrapping import guarded

M = TypeVar("M")

_running_loop: Final = asyncio._get_running_loop
"""The loop this runs in, None for none; documented for implementers of loops, and free of an exception."""

WORKED_S: Final = 0.001
"""Seconds a loop body must have taken to count as the processing of its message (see `Batch`)."""


class _Handed(ref[Any]):
    """A message in somebody's hands, without holding it, and its hop."""

    __slots__ = ("hop", "key", "loop")

    key: int
    hop: ProcessHop
    loop: asyncio.AbstractEventLoop | None
    """Where the hop is to end if the message is dropped."""


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

    __slots__ = ("loop", "messages")

    loop: asyncio.AbstractEventLoop | None
    messages: list[_Handed]

    def over(self) -> bool:
        """Whether the task has ended."""
        task = self()
        return task is None or (isinstance(task, asyncio.Task) and task.done())


class Handovers:
    """All messages now in the hands of this process, found by identity (messages are often not hashable)."""

    def __init__(self) -> None:
        self._by_message: dict[int, _Handed] = {}
        self._by_source: dict[int, _Source] = {}
        self._dropped: deque[ProcessHop] = deque()
        self._woken: asyncio.AbstractEventLoop | None = None
        """The loop that will see to what was dropped: one call is enough, each is a write to its pipe."""

    def called(self, message: Any, hop: ProcessHop) -> None:
        """Note a message handed to a callback: whoever called it ends its hop."""
        try:
            if self._dropped:
                self._drain()
            handed = _Called(message, self._gone)
            handed.key = key = id(message)
            handed.hop, handed.loop = hop, None
            self._by_message[key] = handed
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("handover", fault)

    def gave(self, source: Any, messages: Iterable[tuple[Any, ProcessHop]]) -> None:
        """Note messages given to the current task by `source` (a subscription, a queue, a consumer)."""
        try:
            taker = self._taker(source)
            for message, hop in messages:
                self.give(taker, message, hop)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("handover", fault)

    def give(self, taker: Taker, message: Any, hop: ProcessHop) -> None:
        """Note a message given to the task that came `back`."""
        handed = _Handed(message, self._gone)
        handed.key = key = id(message)
        handed.hop = hop
        handed.loop = taker.loop
        self._by_message[key] = handed
        taker.messages.append(handed)

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
            taker.loop, taker.messages = loop, [] if over is None else over.messages
        return taker

    def _done(self, taker: Taker, error: BaseException | None, forget: bool) -> None:
        messages, taker.messages = taker.messages, []
        for handed in messages:
            hop = handed.hop
            if hop.ended:
                hop.detach()  # settled, and still the current one for what its handler had to do
            else:
                hop.end(error)
            if forget and self._by_message.get(handed.key) is handed:
                del self._by_message[handed.key]

    @guarded
    def closed(self, source: Any, error: BaseException | None = None) -> None:
        """Note that `source` gives nothing more; `error` is what the current task is failing with, if it is."""
        self.back(source, error)
        known = self._by_source.get(id(source))
        if known is None or known() is not source:
            return
        del self._by_source[id(source)]
        for taker in known.takers.values():
            for handed in taker.messages:
                handed.hop.end()
                handed.hop.detach()

    @guarded
    def of(self, message: Any) -> ProcessHop | None:
        """Return the hop of a message, ended or not, None if it was not handed out here."""
        handed = self._by_message.get(id(message))
        return handed.hop if handed is not None and handed() is message else None

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
        self._dropped.append(handed.hop)
        loop = handed.loop
        if loop is not None and loop is not self._woken and not loop.is_closed():
            self._woken = loop
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._woken = None
        self._drain()

    def _drain(self) -> None:
        while self._dropped:
            self._dropped.popleft().end()


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

    def __iter__(self) -> Iterator[M]:
        """Yield each message as the current one."""
        for message in super().__iter__():
            hop = handovers.of(message)
            if hop is None:
                yield message
                continue
            hop.attach()
            began = time.monotonic()
            try:
                yield message
            finally:
                if self._ends and time.monotonic() - began >= WORKED_S:
                    hop.end()
                hop.detach()


@contextmanager
def processing(message: object) -> Iterator[None]:
    """Say where the processing of a message begins and ends, and show an exception that leaves it.

    For loops over consumers, whose body we cannot see fail. Does nothing with a message that is not in hand.
    """
    hop = handovers.of(message)
    if hop is None:
        yield
        return
    hop.attach()
    try:
        yield
    except BaseException as error:
        hop.end(error)
        raise
    else:
        hop.end()
    finally:
        hop.detach()


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
