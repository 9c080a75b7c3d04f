"""The callee, blocking and asyncio: an interceptor before all others that records what handlers answer."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import wraps
from types import TracebackType
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from opentelemetry import context as otel_context
from opentelemetry.util.types import AttributeValue

from hopwatch.calls import Calls
from hopwatch.conventions import CLIENT_ADDRESS
from hopwatch.transports.grpc.contexts import (
    CountedAsync,
    counting,
    gone,
    kept,
    metadata_of,
    peer_of,
    said,
    telling,
)
from hopwatch.transports.grpc.exchange import (
    Counted,
    Exchange,
    Services,
    metadata_getter,
    prepared,
)
from hopwatch.wrapping import Args, Kwargs, Patches, Wrapper, argument, guarded, with_argument

T = TypeVar("T")
Behavior = Callable[[Any, Any], Any]

_KINDS: Final = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


HANDLERS: Final = 256
"""Handlers that are kept recorded: applications have few, but an interceptor of theirs may make one for each call."""


def intercepting(interceptor: Any, at: int) -> Wrapper:
    """Return a wrapper around a maker of servers that puts an interceptor before those of the application."""

    def make(wrapped: Callable[..., T], _: Any, args: Args, kwargs: Kwargs) -> T:
        given = argument(args, kwargs, at, "interceptors") or ()
        args, kwargs = with_argument(args, kwargs, at, "interceptors", (interceptor, *given))
        return wrapped(*args, **kwargs)

    return make


class _Recording:
    """Puts the recording of calls around the handlers of a server, while the transport is instrumented."""

    def __init__(self, calls: Calls, patches: Patches) -> None:
        self._calls = calls
        self._patches = patches
        self._services = Services()
        self._made: dict[tuple[int, str], tuple[Any, Any]] = {}

    @guarded
    def recorded(self, handler: Any, details: grpc.HandlerCallDetails) -> Any:
        """Return a handler around another, None where nothing is to be recorded."""
        method = str(details.method)
        if handler is None or not self._patches.active or not self._services.wanted(method):
            return None
        key = (id(handler), method)
        known = self._made.get(key)
        if known is not None and known[0] is handler:
            return known[1]
        made = self._around(handler, method)
        if len(self._made) >= HANDLERS:
            self._made.clear()
        self._made[key] = handler, made
        return made

    def _around(self, handler: Any, method: str) -> Any:
        kind, make = _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
        behavior = getattr(handler, kind)
        place = prepared(method, {})
        streams = bool(handler.response_streaming), bool(handler.request_streaming)

        def begin(context: Any) -> Exchange:
            peer = peer_of(context)
            own: dict[str, AttributeValue] = {CLIENT_ADDRESS: peer} if peer else {}
            hop = self._calls.serve(place.span_name, own, metadata_of(context), metadata_getter, place=place)
            return Exchange(hop, *streams)

        around = _wrapper_of(behavior, streams=handler.response_streaming)
        return make(
            wraps(behavior)(around(behavior, begin)),
            handler.request_deserializer,
            handler.response_serializer,
        )


class Interceptor(_Recording, grpc.ServerInterceptor):
    """Records the calls of a `grpc.server`."""

    def intercept_service(self, continuation: Callable[..., Any], details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a call, recorded."""
        handler = continuation(details)
        return self.recorded(handler, details) or handler


class AioInterceptor(_Recording, grpc.aio.ServerInterceptor):
    """Records the calls of a `grpc.aio.server`."""

    async def intercept_service(
        self, continuation: Callable[..., Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the handler of a call, recorded."""
        handler = await continuation(details)
        return self.recorded(handler, details) or handler


Begin = Callable[[Any], Exchange]


def _wrapper_of(behavior: Behavior, *, streams: bool) -> Callable[[Behavior, Begin], Behavior]:
    """Return what records a handler of this kind; grpcio tells the kinds apart by the functions themselves."""
    if inspect.isasyncgenfunction(behavior):
        return _async_stream
    if inspect.iscoroutinefunction(behavior):
        return _coroutine
    return _stream if streams else _function


def _function(behavior: Behavior, begin: Begin) -> Behavior:
    def handle(request: Any, context: Any) -> Any:
        exchange = begin(context)
        context = telling(context)
        with _Answering(exchange, context):
            return behavior(_requests(request, exchange), context)

    return handle


def _stream(behavior: Behavior, begin: Begin) -> Behavior:
    def handle(request: Any, context: Any) -> Iterator[Any]:
        exchange = begin(context)
        context = telling(context)
        with _ending(exchange, context):
            with _current(exchange):
                responses = iter(behavior(_requests(request, exchange), context))
            while True:
                with _current(exchange):  # each response may be asked for by another thread
                    response = next(responses, _OVER)
                if response is _OVER:
                    return
                exchange.note_sent()
                yield response

    return handle


def _coroutine(behavior: Behavior, begin: Begin) -> Behavior:
    async def handle(request: Any, context: Any) -> Any:
        exchange = begin(context)
        with _Answering(exchange, context):
            return await behavior(_requests(request, exchange), counting(context, exchange))

    return handle


def _async_stream(behavior: Behavior, begin: Begin) -> Behavior:
    async def handle(request: Any, context: Any) -> AsyncIterator[Any]:
        exchange = begin(context)
        # Never detached: the task is this call's own, and a generator may be closed from another.
        otel_context.attach(exchange.context)
        with _ending(exchange, context):
            async with aclosing(behavior(_requests(request, exchange), context)) as responses:
                async for response in responses:
                    exchange.note_sent()
                    yield response

    return handle


class _Answering:
    """A handler that answers once: its call is current while it runs, and over when it returns."""

    __slots__ = ("_context", "_exchange", "_token")

    def __init__(self, exchange: Exchange, context: Any) -> None:
        self._exchange = exchange
        self._context = context

    def __enter__(self) -> None:
        self._token = otel_context.attach(self._exchange.context)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        otel_context.detach(self._token)
        _end(self._exchange, self._context, error)


@contextmanager
def _current(exchange: Exchange) -> Iterator[None]:
    token = otel_context.attach(exchange.context)
    try:
        yield
    finally:
        otel_context.detach(token)


@contextmanager
def _ending(exchange: Exchange, context: Any) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        _end(exchange, context, error)
        raise
    _end(exchange, context)


_OVER: Final = object()


def _requests(request: Any, exchange: Exchange) -> Any:
    if exchange.received is None:
        return request
    if hasattr(request, "__anext__") or hasattr(request, "__aiter__"):
        return CountedAsync(request, exchange)
    return Counted(request, exchange.note_received)


@guarded
def _end(exchange: Exchange, context: Any, error: BaseException | None = None) -> None:
    code, details = said(context)
    if error is None and code is None:
        exchange.served(kept(context))
    elif error is None or code is not None:
        exchange.served(code or grpc.StatusCode.OK, details=details)  # aborted: the exception is grpcio's own
    elif isinstance(error, asyncio.CancelledError | GeneratorExit):
        exchange.served(gone(context))
    else:
        exchange.served(grpc.StatusCode.UNKNOWN, error)
