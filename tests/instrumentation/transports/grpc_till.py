"""A gRPC server with a handler of each kind, and callers of each kind, blocking and asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from threading import Event
from typing import Any

import grpc
import grpc.aio
from opentelemetry import trace

from hopwatch_demo.patience import scale_wait

TIMEOUT_S = scale_wait(20.0)
KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
REQUESTS = [b"1", b"2", b"3"]


class Till:
    """What the handlers of one server see, and wait for."""

    def __init__(self) -> None:
        self.metadata: list[tuple[str, Any]] = []
        self.current: list[trace.SpanContext] = []
        self.waits: Callable[[], bool] = lambda: False
        self.left: Callable[[], float | None] = lambda: None
        """Seconds until the server knows that the caller's time is over."""
        self.go_on = Event()

    def look(self, context: Any) -> None:
        self.metadata = list(context.invocation_metadata())
        self.waits = getattr(context, "is_active", self.waits)
        self.left = context.time_remaining
        self.current.append(trace.get_current_span().get_span_context())


def blocking_handlers(till: Till) -> dict[str, grpc.RpcMethodHandler]:
    """Handlers that run in threads."""

    def unary_unary(request: bytes, context: grpc.ServicerContext) -> bytes:
        till.look(context)
        if request == b"abort":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
        if request == b"fail":
            raise ValueError("broken")
        if request == b"hang":
            till.go_on.wait(TIMEOUT_S)
        return request

    def unary_stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        till.look(context)
        yield from REQUESTS
        if request == b"fail":
            raise ValueError("broken")

    def stream_unary(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        till.look(context)
        return b"".join(requests)

    def stream_stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        till.look(context)
        yield from requests

    return {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(unary_unary),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(unary_stream),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(stream_unary),
        "StreamStream": grpc.stream_stream_rpc_method_handler(stream_stream),
    }


def async_handlers(till: Till) -> dict[str, grpc.RpcMethodHandler]:
    """Handlers that run in the loop; one streams through its context."""

    async def unary_unary(request: bytes, context: Any) -> bytes:
        till.look(context)
        if request == b"abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
        if request == b"fail":
            raise ValueError("broken")
        if request == b"hang":
            await asyncio.Event().wait()
        return request

    async def unary_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        till.look(context)
        for response in REQUESTS:
            yield response
        if request == b"fail":
            raise ValueError("broken")

    async def stream_unary(requests: AsyncIterator[bytes], context: Any) -> bytes:
        till.look(context)
        return b"".join([request async for request in requests])

    async def stream_stream(_: AsyncIterator[bytes], context: Any) -> None:
        till.look(context)
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(request)

    return {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(unary_unary),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(unary_stream),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(stream_unary),
        "StreamStream": grpc.stream_stream_rpc_method_handler(stream_stream),
    }


Call = Callable[..., Any]


async def by_blocking(address: str, kind: str, request: bytes = b"7", **options: Any) -> list[bytes]:
    """Call with a blocking channel, from a thread."""

    def call() -> list[bytes]:
        with grpc.insecure_channel(address) as channel:
            match kind:
                case "UnaryUnary":
                    return [channel.unary_unary("/shop.Till/UnaryUnary")(request, **options)]
                case "UnaryStream":
                    return list(channel.unary_stream("/shop.Till/UnaryStream")(request, **options))
                case "StreamUnary":
                    return [channel.stream_unary("/shop.Till/StreamUnary")(iter(REQUESTS), **options)]
                case _:
                    return list(channel.stream_stream("/shop.Till/StreamStream")(iter(REQUESTS), **options))

    return await asyncio.to_thread(call)


async def by_aio(address: str, kind: str, request: bytes = b"7", **options: Any) -> list[bytes]:
    """Call with an asyncio channel, reading one stream by hand."""
    async with grpc.aio.insecure_channel(address) as channel:
        match kind:
            case "UnaryUnary":
                return [await channel.unary_unary("/shop.Till/UnaryUnary")(request, **options)]
            case "UnaryStream":
                return [r async for r in channel.unary_stream("/shop.Till/UnaryStream")(request, **options)]
            case "StreamUnary":
                return [await channel.stream_unary("/shop.Till/StreamUnary")(iter(REQUESTS), **options)]
        call = channel.stream_stream("/shop.Till/StreamStream")(**options)
        responses = []
        for one in REQUESTS:
            await call.write(one)
            responses.append(await call.read())
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        return responses
