"""Messages handed to code we cannot see return from: iterators, fetches, gets. When do their hops end?

A hop lasts until its message is settled, until the task that got it is back for more from the same source,
until the source closes, or until nobody holds the message any longer, whichever comes first.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary, ref

from hopwatch.conventions import SettleOutcome
from hopwatch.recorder import ProcessHop
from hopwatch.wrapping import guarded

M = TypeVar("M")

WORKED_S: Final = 0.001
"""Seconds a loop body must have taken to count as the processing of its message (see `Batch`)."""


@dataclass(frozen=True, slots=True)
class _Handed:
    """A message in somebody's hands, without holding it."""

    message: "ref[Any]"
    hop: ProcessHop
    unseen: bool
    """Whether its end cannot be seen, because no callback returns."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """What one task took from one source since it last came back."""

    task: "ref[Any]"
    messages: list[_Handed]


class Handovers:
    """All messages now in the hands of this process, found by identity (messages are often not hashable)."""

    def __init__(self) -> None:
        self._by_message: dict[int, _Handed] = {}
        self._by_source: WeakKeyDictionary[Any, dict[int, _Taken]] = WeakKeyDictionary()
        self._dropped: deque[ProcessHop] = deque()

    @guarded
    def called(self, message: Any, hop: ProcessHop) -> None:
        """Note a message handed to a callback: whoever called it ends its hop."""
        self._note(message, hop, unseen=False)

    @guarded
    def gave(self, source: Any, messages: Iterable[tuple[Any, ProcessHop]]) -> None:
        """Note messages given to the current task by `source` (a subscription, a queue, a consumer)."""
        task = _task()
        takers = self._by_source.setdefault(source, {})
        taken = takers.get(id(task))
        if taken is None or taken.task() is not task:
            taken = takers[id(task)] = _Taken(ref(task), [])
        taken.messages.extend(self._note(message, hop, unseen=True) for message, hop in messages)

    @guarded
    def back(self, source: Any, error: BaseException | None = None) -> None:
        """Note that the current task is back for more: it is done with what it got from `source` before.

        So is a task that has ended, such as the one `asyncio.wait_for` runs a fetch in.
        """
        self._drain()
        takers = self._by_source.get(source)
        if not takers:
            return
        current = _task()
        for key, taken in list(takers.items()):
            task = taken.task()
            if task is current or task is None or (isinstance(task, asyncio.Task) and task.done()):
                del takers[key]
                for handed in taken.messages:
                    _end(handed.hop, error)

    @guarded
    def closed(self, source: Any, error: BaseException | None = None) -> None:
        """Note that `source` gives nothing more; `error` is what the current task is failing with, if it is."""
        self.back(source, error)
        for taken in self._by_source.pop(source, {}).values():
            for handed in taken.messages:
                _end(handed.hop)

    @guarded
    def of(self, message: Any) -> ProcessHop | None:
        """Return the hop of a message, ended or not, None if it was not handed out here."""
        handed = self._by_message.get(id(message))
        return handed.hop if handed is not None and handed.message() is message else None

    @guarded
    def settled(self, message: Any, outcome: SettleOutcome, reason: str = "") -> None:
        """Note how a message was settled; a hop whose end cannot be seen otherwise ends here."""
        handed = self._by_message.get(id(message))
        if handed is None or handed.message() is not message:
            return
        handed.hop.settled(outcome, reason)
        if handed.unseen:
            handed.hop.end(keep_current=True)

    def single(self, source: Any) -> list[tuple[Any, ProcessHop]]:
        """Return the messages that tasks took from `source` one by one, and have not come back from."""
        taken = [taken.messages for taken in self._by_source.get(source, {}).values()]
        alone = [messages[0] for messages in taken if len(messages) == 1]
        return [(message, handed.hop) for handed in alone if (message := handed.message()) is not None]

    def taken_from(self, source: Any) -> list[tuple[Any, ProcessHop]]:
        """Return all messages that tasks took from `source`, and have not come back from."""
        taken = [handed for taken in self._by_source.get(source, {}).values() for handed in taken.messages]
        return [(message, handed.hop) for handed in taken if (message := handed.message()) is not None]

    def in_hand(self) -> list[tuple[Any, ProcessHop]]:
        """Return the messages that are still held by somebody, with their hops."""
        held = ((handed.message(), handed.hop) for handed in list(self._by_message.values()))
        return [(message, hop) for message, hop in held if message is not None]

    def _note(self, message: Any, hop: ProcessHop, *, unseen: bool) -> _Handed:
        self._drain()
        key = id(message)
        loop = _loop()

        def dropped(gone: "ref[Any]") -> None:
            handed = self._by_message.get(key)
            if handed is None or handed.message is not gone:
                return
            del self._by_message[key]
            if not hop.ended and unseen:
                # Not ended right here: the garbage collector may run inside an exporter that holds its lock.
                self._dropped.append(hop)
                if loop is not None and not loop.is_closed():
                    loop.call_soon_threadsafe(self._drain)

        handed = _Handed(ref(message, dropped), hop, unseen)
        self._by_message[key] = handed
        return handed

    def _drain(self) -> None:
        while self._dropped:
            self._dropped.popleft().end()


handovers: Final = Handovers()
"""The process's messages in hand."""


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


def _task() -> object:
    return (asyncio.current_task() if _loop() is not None else None) or _NO_TASK


def _loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _end(hop: ProcessHop, error: BaseException | None = None) -> None:
    hop.end(error)
    hop.detach()
