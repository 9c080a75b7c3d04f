"""Declaring: which queues and exchanges exist and what they are bound to."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aio_pika.channel import Channel
from aio_pika.exchange import Exchange
from aio_pika.queue import Queue

from hopwatch.recorder import Recorder
from hopwatch.transports.aio_pika.bindings import Bindings, outlives_consumers
from hopwatch.wrapping import Args, Kwargs, argument, guarded

T = TypeVar("T")
Call = Callable[..., Awaitable[T]]


class Declaring:
    """The wrappers around declaring, binding and deleting; robust queues and exchanges repeat it after a reconnect."""

    def __init__(self, recorder: Recorder) -> None:
        self._bindings = Bindings(recorder)

    async def declare(self, wrapped: Call[T], queue: Queue, args: Args, kwargs: Kwargs) -> T:
        """Report a declared queue."""
        result = await wrapped(*args, **kwargs)
        self._declared(queue)
        return result

    async def bind(self, wrapped: Call[T], queue: Queue, args: Args, kwargs: Kwargs) -> T:
        """Report a binding."""
        result = await wrapped(*args, **kwargs)
        guarded(self._bindings.bound)(queue, *_binding(queue, args, kwargs))
        return result

    async def unbind(self, wrapped: Call[T], queue: Queue, args: Args, kwargs: Kwargs) -> T:
        """Report the end of a binding."""
        result = await wrapped(*args, **kwargs)
        guarded(self._bindings.unbound)(queue, *_binding(queue, args, kwargs))
        return result

    async def delete(self, wrapped: Call[T], queue: Queue, args: Args, kwargs: Kwargs) -> T:
        """Report the end of a queue."""
        result = await wrapped(*args, **kwargs)
        guarded(self._bindings.deleted)(queue.name)
        return result

    async def queue_delete(self, wrapped: Call[T], channel: Channel, args: Args, kwargs: Kwargs) -> T:
        """Report the end of a queue deleted by name."""
        result = await wrapped(*args, **kwargs)
        guarded(self._bindings.deleted)(argument(args, kwargs, 0, "queue_name"))
        return result

    async def exchange_declare(self, wrapped: Call[T], exchange: Exchange, args: Args, kwargs: Kwargs) -> T:
        """Learn of what kind an exchange is."""
        result = await wrapped(*args, **kwargs)
        guarded(self._bindings.exchange_declared)(exchange)
        return result

    async def exchange_bind(self, wrapped: Call[T], exchange: Exchange, args: Args, kwargs: Kwargs) -> T:
        """Report what queues get through an exchange bound to another."""
        result = await wrapped(*args, **kwargs)
        guarded(self._bindings.exchange_bound)(exchange, *_source(args, kwargs))
        return result

    async def exchange_unbind(self, wrapped: Call[T], exchange: Exchange, args: Args, kwargs: Kwargs) -> T:
        """Report what they no longer get."""
        result = await wrapped(*args, **kwargs)
        guarded(self._bindings.exchange_unbound)(exchange, *_source(args, kwargs))
        return result

    async def exchange_delete(self, wrapped: Call[T], exchange: Exchange, args: Args, kwargs: Kwargs) -> T:
        """Report the end of all bindings of an exchange."""
        result = await wrapped(*args, **kwargs)
        guarded(self._bindings.exchange_deleted)(exchange.name)
        return result

    async def exchange_delete_named(
        self, wrapped: Call[T], channel: Channel, args: Args, kwargs: Kwargs
    ) -> T:
        """Report the end of all bindings of an exchange deleted by name."""
        result = await wrapped(*args, **kwargs)
        guarded(self._bindings.exchange_deleted)(argument(args, kwargs, 0, "exchange_name"))
        return result

    @guarded
    def _declared(self, queue: Queue) -> None:
        self._bindings.declared(queue)
        if not outlives_consumers(queue):
            queue.close_callbacks.add(self._closed)

    def _closed(self, queue: Any, _error: BaseException | None = None) -> None:
        """A queue of this connection alone goes with it; a restored one is declared again."""
        if queue is not None:
            guarded(self._bindings.deleted)(queue.name)


def _binding(queue: Queue, args: Args, kwargs: Kwargs) -> tuple[Any, str]:
    key = argument(args, kwargs, 1, "routing_key")
    return argument(args, kwargs, 0, "exchange"), queue.name if key is None else key


def _source(args: Args, kwargs: Kwargs) -> tuple[Any, str]:
    return argument(args, kwargs, 0, "exchange"), argument(args, kwargs, 1, "routing_key", "")
