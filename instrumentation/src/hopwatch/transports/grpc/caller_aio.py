"""The asyncio caller: every call ends with its status, whether anybody awaits or reads it or not."""

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import grpc
from grpc._cython import cygrpc
from grpc.aio import _base_channel

from hopwatch.calls import Calls
from hopwatch.transports.grpc.begin import Begun, Kinds, begin
from hopwatch.transports.grpc.exchange import CODES, Exchange, Services
from hopwatch.wrapping import Args, Kwargs, argument, guarded

T = TypeVar("T")

_kinds: Final = Kinds(
    (_base_channel.StreamUnaryMultiCallable, _base_channel.StreamStreamMultiCallable),
    (_base_channel.UnaryStreamMultiCallable, _base_channel.StreamStreamMultiCallable),
)

_beginning: ContextVar[Exchange | None] = ContextVar("hopwatch-grpc-beginning", default=None)
"""The exchange whose call is being made; the application's interceptors make it in a task of their own."""


class AioCaller:
    """The wrappers around the multi-callables and calls of `grpc.aio.Channel`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._services = Services()
        self._exchanges: WeakKeyDictionary[Any, Exchange] = WeakKeyDictionary()
        self._targets: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def opened(self, wrapped: Callable[..., None], channel: Any, args: Args, kwargs: Kwargs) -> None:
        """Remember where a channel goes, where it cannot tell."""
        wrapped(*args, **kwargs)
        if not hasattr(channel._channel, "target"):
            self._targets[channel] = argument(args, kwargs, 0, "target")

    def started(self, wrapped: Callable[..., T], callable_: Any, args: Args, kwargs: Kwargs) -> T:
        """Record a call from here to its status."""
        begun = self._begin(callable_, args, kwargs)
        if begun is None:
            return wrapped(*args, **kwargs)
        exchange = begun.exchange
        token = _beginning.set(exchange if exchange.streams else None)
        try:
            call = wrapped(*begun.args, **begun.kwargs)
        except BaseException as error:
            exchange.failed(error)
            raise
        finally:
            _beginning.reset(token)
        _watch(call, exchange)
        return call

    def made(self, wrapped: Callable[..., None], call: Any, args: Args, kwargs: Kwargs) -> None:
        """Remember whose messages a call carries."""
        exchange = _beginning.get()
        if exchange is not None:
            self._exchanges[call] = exchange
        wrapped(*args, **kwargs)

    async def received(
        self, wrapped: Callable[..., Awaitable[T]], call: Any, args: Args, kwargs: Kwargs
    ) -> T:
        """Count a message read from a stream."""
        exchange = self._exchanges.get(call)
        if exchange is None:
            return await wrapped(*args, **kwargs)
        with exchange.reading():
            message = await wrapped(*args, **kwargs)
            if message is not cygrpc.EOF:
                exchange.note_received()
            return message

    async def sent(self, wrapped: Callable[..., Awaitable[T]], call: Any, args: Args, kwargs: Kwargs) -> T:
        """Count a message written to a stream."""
        result = await wrapped(*args, **kwargs)
        exchange = self._exchanges.get(call)
        if exchange is not None:
            exchange.note_sent()
        return result

    @guarded
    def _begin(self, callable_: Any, args: Args, kwargs: Kwargs) -> Begun | None:
        target = getattr(callable_._channel, "target", None)
        if target is None:
            target = self._targets.get(callable_._references[0], "")
        streams = _kinds.of(type(callable_))
        return begin(self._calls, self._services, callable_._method, target, args, kwargs, streams)


@guarded
def _watch(call: Any, exchange: Exchange) -> None:
    # Beneath the call, because a callback of the call's own would keep a dropped one from being cancelled.
    under = getattr(call, "_cython_call", None)
    if under is None:  # the application's interceptors make the call
        call.add_done_callback(partial(_over, exchange=exchange))
    else:
        under.add_done_callback(partial(_over_beneath, under, exchange))


def _over_beneath(under: Any, exchange: Exchange) -> None:
    status = under._status
    exchange.over(CODES[status.code()], status.details())


@guarded
def _over(call: Any, exchange: Exchange) -> None:
    code = _at_once(call.code())
    exchange.over(code or grpc.StatusCode.UNKNOWN, _at_once(call.details()))


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of a coroutine that has nothing to wait for: the status of a call that is over."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    else:
        return None
    finally:
        coroutine.close()
