"""The blocking caller: what it calls and waits for, calls and goes on, or reads as a stream."""

import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar

import grpc
from grpc import _channel

from hopwatch.calls import Calls
from hopwatch.transports.grpc.begin import Begun, Kinds, begin
from hopwatch.transports.grpc.exchange import Counted, Exchange, Services
from hopwatch.wrapping import Args, Kwargs, guarded

T = TypeVar("T")

_kinds: Final = Kinds(
    (grpc.StreamUnaryMultiCallable, grpc.StreamStreamMultiCallable),
    (grpc.UnaryStreamMultiCallable, grpc.StreamStreamMultiCallable),
)


class Caller:
    """The wrappers around the multi-callables of `grpc.Channel`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._services = Services()
        self._streams: weakref.WeakKeyDictionary[Any, Exchange] = weakref.WeakKeyDictionary()

    def blocking(self, wrapped: Callable[..., T], callable_: Any, args: Args, kwargs: Kwargs) -> T:
        """Record a call that returns with its answer."""
        begun = self._begin(callable_, args, kwargs)
        if begun is None:
            return wrapped(*args, **kwargs)
        try:
            result = wrapped(*begun.args, **begun.kwargs)
        except BaseException as error:
            _failed(begun.exchange, error)
            raise
        begun.exchange.answered(grpc.StatusCode.OK)
        return result

    def started(self, wrapped: Callable[..., T], callable_: Any, args: Args, kwargs: Kwargs) -> T:
        """Record a call whose answer, or the end of whose answers, comes later: read or not."""
        begun = self._begin(callable_, args, kwargs)
        if begun is None:
            return wrapped(*args, **kwargs)
        try:
            call = wrapped(*begun.args, **begun.kwargs)
        except BaseException as error:
            _failed(begun.exchange, error)
            raise
        self._watch(call, begun.exchange)
        return call

    def received(self, wrapped: Callable[..., T], call: Any, args: Args, kwargs: Kwargs) -> T:
        """Count a message read from a stream."""
        exchange = self._streams.get(call)
        if exchange is None:
            return wrapped(*args, **kwargs)
        with exchange.reading():
            message = wrapped(*args, **kwargs)
            exchange.note_received()
            return message

    @guarded
    def _begin(self, callable_: Any, args: Args, kwargs: Kwargs) -> Begun | None:
        streams = _kinds.of(type(callable_))
        method, target = callable_._method, callable_._target
        begun = begin(self._calls, self._services, method, target, args, kwargs, streams)
        if begun is None or not streams[0] or not begun.args:
            return begun
        requests = Counted(begun.args[0], begun.exchange.note_sent)
        return Begun(begun.exchange, (requests, *begun.args[1:]), begun.kwargs)

    @guarded
    def _watch(self, call: Any, exchange: Exchange) -> None:
        state = call._state  # holding the call itself would keep a dropped one from being cancelled

        def over() -> None:
            exchange.over(state.code, state.details)

        if exchange.received is not None:
            self._streams[call] = exchange
        if not call.add_callback(over):
            over()
        elif isinstance(call, _channel._SingleThreadedRendezvous):
            weakref.finalize(call, over)  # its callbacks are called by whoever reads it


@guarded
def _failed(exchange: Exchange, error: BaseException) -> None:
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        exchange.answered(error.code(), error.details())
    else:
        exchange.failed(error)
