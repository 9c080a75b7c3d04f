"""Consuming: by callback, iterator and get; what becomes of each message by ack, nack, reject or `process()`."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial, wraps
from typing import Any, Final, TypeVar

from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelInvalidStateError
from aio_pika.message import IncomingMessage, ProcessContext
from aio_pika.queue import Queue, QueueIterator
from aio_pika.tools import ensure_awaitable

from hopwatch.conventions import SettleOutcome
from hopwatch.faults import swallowed
from hopwatch.handover import JUST_GOT, Attempts, handovers
from hopwatch.instrumentor import recorded
from hopwatch.recorder import ProcessHop, Recorder
from hopwatch.transports.aio_pika.places import Death, attempt, destination, details, is_simple, own_deaths
from hopwatch.transports.aio_pika.transaction import Transactions
from hopwatch.wrapping import Args, Kwargs, Patches, argument, guarded, header_getter, with_argument

T = TypeVar("T")
Call = Callable[..., Awaitable[T]]

_FIRST: Final[tuple[Sequence[Death], int]] = ((), 1)
"""What a broker has to say of most messages: they died nowhere, and this is the first attempt."""


class HeldMessage(IncomingMessage):
    """An incoming message that can be referred to weakly, so that its hop ends when nobody holds it any longer."""

    __slots__ = ("__weakref__",)


HeldMessage.__name__ = HeldMessage.__qualname__ = IncomingMessage.__name__  # what `repr` shows stays the same


class Consuming:
    """The wrappers around queues, their iterators and the messages they give."""

    def __init__(self, recorder: Recorder, patches: Patches, transactions: Transactions) -> None:
        self._recorder = recorder
        self._patches = patches
        self._transactions = transactions
        self._again = Attempts()

    async def consume(self, wrapped: Call[T], queue: Queue, args: Args, kwargs: Kwargs) -> T:
        """Record what a callback gets; an iterator's own callback only fills its buffer."""
        callback = argument(args, kwargs, 0, "callback")
        if not isinstance(getattr(callback, "__self__", None), QueueIterator):
            no_ack = bool(argument(args, kwargs, 1, "no_ack", False))

            def begin(message: AbstractIncomingMessage) -> ProcessHop | None:
                hop = self._begin(queue, message, no_ack)
                if hop is not None:
                    handovers.called(message, hop)
                return hop

            around = recorded(ensure_awaitable(callback), begin)
            args, kwargs = with_argument(args, kwargs, 0, "callback", around)
        return await wrapped(*args, **kwargs)

    async def get(self, wrapped: Call[T], queue: Queue, args: Args, kwargs: Kwargs) -> T:
        """Record a message taken by hand."""
        handovers.back(queue)
        message = await wrapped(*args, **kwargs)
        references = sys.getrefcount(message) - JUST_GOT
        if isinstance(message, IncomingMessage):
            self._give(queue, queue, message, references, no_ack=bool(kwargs.get("no_ack", False)))
        return message

    async def iterate(
        self, wrapped: Call[IncomingMessage], iterator: QueueIterator, args: Args, kwargs: Kwargs
    ) -> IncomingMessage:
        """Record a message taken by `async for`."""
        handovers.back(iterator)
        message = await wrapped(*args, **kwargs)
        references = sys.getrefcount(message) - JUST_GOT
        no_ack = bool(iterator._consume_kwargs.get("no_ack", False))
        self._give(iterator, iterator._amqp_queue, message, references, no_ack=no_ack)
        return message

    async def leave(self, wrapped: Call[T], iterator: QueueIterator, args: Args, kwargs: Kwargs) -> T:
        """End what an iterator handed out, with the exception that leaves its `async with`."""
        handovers.back(iterator, argument(args, kwargs, 1, "exc_val"))
        return await wrapped(*args, **kwargs)

    async def close(self, wrapped: Call[T], iterator: QueueIterator, args: Args, kwargs: Kwargs) -> T:
        """End what an iterator handed out; what it only buffered, it gives back to the broker."""
        handovers.closed(iterator)
        return await wrapped(*args, **kwargs)

    def ack(self, original: Call[T]) -> Call[T]:
        """Note an acknowledgement."""

        @wraps(original)
        async def ack(message: IncomingMessage, *args: Any, **kwargs: Any) -> T:
            result = await original(message, *args, **kwargs)
            if self._patches.active:
                multiple = bool(args[0] if args else kwargs.get("multiple"))
                if multiple or self._transactions.any:
                    self._settled(message, SettleOutcome.ACK, multiple=multiple)
                else:
                    handovers.settled(message, SettleOutcome.ACK)
            return result

        return ack

    async def nack(self, wrapped: Call[T], message: IncomingMessage, args: Args, kwargs: Kwargs) -> T:
        """Note a negative acknowledgement."""
        result = await wrapped(*args, **kwargs)
        multiple, requeue = (
            argument(args, kwargs, 0, "multiple", False),
            argument(args, kwargs, 1, "requeue", True),
        )
        self._settled(
            message, SettleOutcome.REQUEUE if requeue else SettleOutcome.REJECT, multiple=bool(multiple)
        )
        return result

    async def reject(self, wrapped: Call[T], message: IncomingMessage, args: Args, kwargs: Kwargs) -> T:
        """Note a rejection."""
        result = await wrapped(*args, **kwargs)
        requeue = argument(args, kwargs, 0, "requeue", False)
        self._settled(message, SettleOutcome.REQUEUE if requeue else SettleOutcome.REJECT, multiple=False)
        return result

    async def processed(self, wrapped: Call[T], context: ProcessContext, args: Args, kwargs: Kwargs) -> T:
        """Note the exception that leaves `async with message.process()`, which may be caught outside of it."""
        error = argument(args, kwargs, 1, "exc_val")
        hop = handovers.of(context.message) if error is not None else None
        if hop is not None:
            hop.failed(error)
        return await wrapped(*args, **kwargs)

    def _settled(self, message: IncomingMessage, outcome: SettleOutcome, *, multiple: bool) -> None:
        """Note a settlement, in a transaction only once that is committed."""
        try:
            under_way = self._transactions.on(message)
            if under_way is None:
                _note(message, outcome, multiple=multiple)
            else:
                under_way.settled.append(partial(_note, message, outcome, multiple=multiple))
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("settle", fault)

    @guarded
    def _give(
        self, source: object, queue: Queue, message: IncomingMessage, references: int, *, no_ack: bool
    ) -> None:
        hop = self._begin(queue, message, no_ack)
        if hop is not None:
            handovers.gave(source, [(message, hop)])
            handovers.passed(message, references)

    def _begin(self, queue: Queue, message: AbstractIncomingMessage, no_ack: bool) -> ProcessHop | None:
        if not self._patches.active:
            return None
        try:
            channel: Any = queue.channel
            name, headers = queue.name, message.headers
            died, number = _FIRST
            if not is_simple(message, headers):
                died = own_deaths(headers)
                number = attempt(message, name, died, self._again)
            return self._recorder.process(
                "process",
                destination(message.exchange or "", message.routing_key or "", channel._connection, name),
                receiver=name,
                carrier=headers,
                getter=header_getter,
                attempt=number,
                attributes=details(message, name, died, self._recorder.opted),
                settled=SettleOutcome.AUTO if no_ack else None,
            )
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("process", fault)
            return None


def _note(message: IncomingMessage, outcome: SettleOutcome, *, multiple: bool) -> None:
    handovers.settled(message, outcome)
    if not multiple or message.delivery_tag is None:
        return
    for other, _ in handovers.in_hand():
        if isinstance(other, IncomingMessage) and _earlier(other, message):
            handovers.settled(other, outcome)


def _earlier(other: IncomingMessage, message: IncomingMessage) -> bool:
    """Whether `multiple` of a message covers another: earlier on the same channel, which must still be open."""
    try:
        same = other.channel is message.channel
    except ChannelInvalidStateError:
        return False
    return same and other.delivery_tag is not None and other.delivery_tag < (message.delivery_tag or 0)
