"""Declaring: which queues and exchanges exist and what they are bound to."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aio_pika.channel import Channel
from aio_pika.exchange import Exchange
from aio_pika.queue import Queue

from hopwatch.beside import Beside
from hopwatch.recorder import Recorder
from hopwatch.transports.aio_pika.bindings import Bindings, outlives_consumers
from hopwatch.transports.aio_pika.marks import Marks
from hopwatch.transports.aio_pika.places import link, servers
from hopwatch.wrapping import Args, Kwargs, argument, guarded

T = TypeVar("T")
Call = Callable[..., Awaitable[T]]


class Declaring:
    """The wrappers around declaring, binding and deleting; robust queues and exchanges repeat it after a reconnect."""

    def __init__(self, recorder: Recorder, marks: Marks) -> None:
        self._recorder = recorder
        self._marks = marks
        self._known: dict[tuple[str, str], Bindings] = {}
        self._last: Beside[Bindings] = Beside()

    async def declare(self, wrapped: Call[T], queue: Queue, args: Args, kwargs: Kwargs) -> T:
        """Report a declared queue."""
        bindings = self._at(queue)
        result = await wrapped(*args, **kwargs)
        _learn(bindings, lambda known: _declared(known, queue))
        return result

    async def bind(self, wrapped: Call[T], queue: Queue, args: Args, kwargs: Kwargs) -> T:
        """Report a binding."""
        bindings = self._at(queue)
        result = await wrapped(*args, **kwargs)
        _learn(bindings, lambda known: known.bound(queue, *_binding(queue, args, kwargs)))
        return result

    async def unbind(self, wrapped: Call[T], queue: Queue, args: Args, kwargs: Kwargs) -> T:
        """Report the end of a binding."""
        bindings = self._at(queue)
        result = await wrapped(*args, **kwargs)
        _learn(bindings, lambda known: known.unbound(queue, *_binding(queue, args, kwargs)))
        return result

    async def delete(self, wrapped: Call[T], queue: Queue, args: Args, kwargs: Kwargs) -> T:
        """Report the end of a queue."""
        bindings = self._at(queue)
        result = await wrapped(*args, **kwargs)
        _learn(bindings, lambda known: known.deleted(queue.name))
        return result

    async def queue_delete(self, wrapped: Call[T], channel: Channel, args: Args, kwargs: Kwargs) -> T:
        """Report the end of a queue deleted by name."""
        bindings = self._at(channel)
        result = await wrapped(*args, **kwargs)
        name = argument(args, kwargs, 0, "queue_name")
        _learn(bindings, lambda known: known.deleted(name))
        return result

    async def exchange_declare(self, wrapped: Call[T], exchange: Exchange, args: Args, kwargs: Kwargs) -> T:
        """Learn of what kind an exchange is."""
        bindings = self._at(exchange)
        result = await wrapped(*args, **kwargs)
        _learn(bindings, lambda known: known.exchange_declared(exchange))
        return result

    async def exchange_bind(self, wrapped: Call[T], exchange: Exchange, args: Args, kwargs: Kwargs) -> T:
        """Report what queues get through an exchange bound to another."""
        bindings = self._at(exchange)
        result = await wrapped(*args, **kwargs)
        _learn(bindings, lambda known: known.exchange_bound(exchange, *_source(args, kwargs)))
        return result

    async def exchange_unbind(self, wrapped: Call[T], exchange: Exchange, args: Args, kwargs: Kwargs) -> T:
        """Report what they no longer get."""
        bindings = self._at(exchange)
        result = await wrapped(*args, **kwargs)
        _learn(bindings, lambda known: known.exchange_unbound(exchange, *_source(args, kwargs)))
        return result

    async def exchange_delete(self, wrapped: Call[T], exchange: Exchange, args: Args, kwargs: Kwargs) -> T:
        """Report the end of all bindings of an exchange."""
        bindings = self._at(exchange)
        result = await wrapped(*args, **kwargs)
        _learn(bindings, lambda known: known.exchange_deleted(exchange.name))
        return result

    async def exchange_delete_named(
        self, wrapped: Call[T], channel: Channel, args: Args, kwargs: Kwargs
    ) -> T:
        """Report the end of all bindings of an exchange deleted by name."""
        bindings = self._at(channel)
        result = await wrapped(*args, **kwargs)
        name = argument(args, kwargs, 0, "exchange_name")
        _learn(bindings, lambda known: known.exchange_deleted(name))
        return result

    @guarded
    def _at(self, owner: Queue | Exchange | Channel) -> Bindings:
        """Return what is known of the broker that a queue, exchange or channel is at; deleted, it no longer tells."""
        channel: Any = owner if isinstance(owner, Channel) else owner.channel
        connection = channel._connection
        own = link(connection)
        bindings = self._last.get(connection) if own is None else None
        if bindings is None:
            key = servers.broker_of(connection), self._marks.of(own)
            bindings = self._known.get(key)
            if bindings is None:
                bindings = self._known[key] = Bindings(self._recorder, *key)
            self._last.put(connection, bindings)
        return bindings


@guarded
def _learn(bindings: Bindings | None, learn: Callable[[Bindings], None]) -> None:
    if bindings is not None:
        learn(bindings)


def _declared(bindings: Bindings, queue: Queue) -> None:
    bindings.declared(queue)
    if not outlives_consumers(queue):
        queue.close_callbacks.add(bindings.closed)


def _binding(queue: Queue, args: Args, kwargs: Kwargs) -> tuple[Any, str]:
    key = argument(args, kwargs, 1, "routing_key")
    return argument(args, kwargs, 0, "exchange"), queue.name if key is None else key


def _source(args: Args, kwargs: Kwargs) -> tuple[Any, str]:
    return argument(args, kwargs, 0, "exchange"), argument(args, kwargs, 1, "routing_key", "")
