"""gRPC, blocking and asyncio: the four kinds of calls, statuses, deadlines, and streams nobody reads."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from hopwatch.conventions import (
    ERROR_TYPE,
    MESSAGE_ID,
    MESSAGES_RECEIVED,
    MESSAGES_SENT,
    PUBLISH_OUTCOME,
    RPC_METHOD,
    RPC_STATUS,
    SERVER_PORT,
)
from hopwatch.transports.grpc import GrpcInstrumentor

TIMEOUT_S = 20.0
KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
REQUESTS = [b"1", b"2", b"3"]


class Till:
    """What the handlers of one server see, and wait for."""

    def __init__(self) -> None:
        self.metadata: list[tuple[str, Any]] = []
        self.current: list[trace.SpanContext] = []
        self.waits: Callable[[], bool] = lambda: False
        self.go_on = Event()

    def look(self, context: Any) -> None:
        self.metadata = list(context.invocation_metadata())
        self.waits = getattr(context, "is_active", self.waits)
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


@pytest.fixture
def till() -> Iterator[Till]:
    """The test's view of the server."""
    till = Till()
    yield till
    till.go_on.set()


@pytest.fixture(params=["blocking", "aio", "blocking handlers on aio"])
async def address(
    request: pytest.FixtureRequest, till: Till, instrumented: Any, hops: Any
) -> AsyncIterator[str]:
    """An instrumented server of each flavour."""
    instrumented(GrpcInstrumentor())
    handlers = async_handlers(till) if request.param == "aio" else blocking_handlers(till)
    generic = (grpc.method_handlers_generic_handler("shop.Till", handlers),)
    if request.param == "blocking":
        with ThreadPoolExecutor(4) as threads:
            server = grpc.server(threads, generic)
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            yield f"127.0.0.1:{port}"
            till.go_on.set()
            server.stop(None).wait(TIMEOUT_S)
    else:
        with ThreadPoolExecutor(4) as threads:
            aio = grpc.aio.server(threads, generic)
            port = aio.add_insecure_port("127.0.0.1:0")
            await aio.start()
            yield f"127.0.0.1:{port}"
            till.go_on.set()
            await aio.stop(None)


@pytest.fixture(params=[by_blocking, by_aio], ids=["blocking", "aio"])
def call(request: pytest.FixtureRequest) -> Call:
    """A client of each flavour."""
    return request.param  # type: ignore[no-any-return]


async def halves(hops: Any) -> tuple[ReadableSpan, ReadableSpan]:
    """Return the two spans of the one call there was, and make sure that there are no others."""
    await hops.until(lambda: hops.of_kind(SpanKind.CLIENT) and hops.of_kind(SpanKind.SERVER))
    [sent], [served] = hops.of_kind(SpanKind.CLIENT), hops.of_kind(SpanKind.SERVER)
    assert len(hops.all()) == 2
    return sent, served


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_is_one_message(
    kind: str, call: Call, address: str, till: Till, hops: Any
) -> None:
    """Two spans of one id, the server's current while its handler runs; streams count what went each way."""
    answered = await call(address, kind)
    assert b"".join(answered) == (b"7" if kind == "UnaryUnary" else b"123")
    sent, served = await halves(hops)
    assert sent.name == served.name == f"shop.Till/{kind}"
    assert sent.attributes[MESSAGE_ID] == served.attributes[MESSAGE_ID]
    assert served.parent.span_id == sent.context.span_id
    assert [context.span_id for context in till.current] == [served.context.span_id]
    assert sent.attributes[RPC_METHOD] == served.attributes[RPC_METHOD] == f"shop.Till/{kind}"
    assert sent.attributes[RPC_STATUS] == served.attributes[RPC_STATUS] == "OK"
    assert sent.attributes[SERVER_PORT] == int(address.rpartition(":")[2])
    requests = 3 if kind.startswith("Stream") else None
    responses = 3 if kind.endswith("Stream") else None
    assert (sent.attributes.get(MESSAGES_SENT), sent.attributes.get(MESSAGES_RECEIVED)) == (
        requests,
        responses,
    )
    assert (served.attributes.get(MESSAGES_RECEIVED), served.attributes.get(MESSAGES_SENT)) == (
        requests,
        responses,
    )


async def test_metadata_of_the_callers_is_kept_as_it_was(
    call: Call, address: str, till: Till, hops: Any
) -> None:
    """Names that come twice come twice, and what an earlier hop left behind is replaced."""
    forwarded = (("mine", "1"), ("mine", "2"), ("traceparent", "stale"), ("hopwatch-id", "stale"))
    await call(address, "UnaryUnary", metadata=forwarded)
    sent, _ = await halves(hops)
    assert [value for name, value in till.metadata if name == "mine"] == ["1", "2"]
    assert [value for name, value in till.metadata if name == "hopwatch-id"] == [sent.attributes[MESSAGE_ID]]
    assert len([name for name, _ in till.metadata if name == "traceparent"]) == 1


async def test_an_abort_is_an_answer(call: Call, address: str, hops: Any) -> None:
    """NOT_FOUND fails the caller, not the server; nobody records grpcio's own exception."""
    with pytest.raises(grpc.RpcError):
        await call(address, "UnaryUnary", b"abort")
    sent, served = await halves(hops)
    assert sent.attributes[RPC_STATUS] == served.attributes[RPC_STATUS] == "NOT_FOUND"
    assert (sent.attributes[ERROR_TYPE], sent.status.description) == ("NOT_FOUND", "no such order")
    assert served.status.status_code is StatusCode.UNSET
    assert PUBLISH_OUTCOME not in sent.attributes
    assert not served.events


@pytest.mark.parametrize("kind", ["UnaryUnary", "UnaryStream"])
async def test_an_exception_is_on_the_servers_span(kind: str, call: Call, address: str, hops: Any) -> None:
    """The caller gets UNKNOWN as ever, the record has the exception."""
    with pytest.raises(grpc.RpcError):
        await call(address, kind, b"fail")
    sent, served = await halves(hops)
    assert sent.attributes[RPC_STATUS] == served.attributes[RPC_STATUS] == "UNKNOWN"
    assert served.attributes[ERROR_TYPE] == "ValueError"
    assert served.status.status_code is StatusCode.ERROR


async def test_a_deadline_leaves_the_call_unconfirmed(
    call: Call, address: str, till: Till, hops: Any
) -> None:
    """Neither side got to an answer."""
    with pytest.raises(grpc.RpcError):
        await call(address, "UnaryUnary", b"hang", timeout=0.3)
    till.go_on.set()
    sent, served = await halves(hops)
    assert sent.attributes[RPC_STATUS] == "DEADLINE_EXCEEDED"
    assert sent.attributes[PUBLISH_OUTCOME] == "unconfirmed"
    assert served.attributes[RPC_STATUS] in ("DEADLINE_EXCEEDED", "CANCELLED")
    assert served.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("address", ["blocking", "aio"], indirect=True)
async def test_a_cancelled_call_ends_on_both_sides(address: str, till: Till, hops: Any) -> None:
    """Cancellation reaches the caller unchanged."""
    async with grpc.aio.insecure_channel(address) as channel:
        asking = channel.unary_unary("/shop.Till/UnaryUnary")(b"hang")
        await hops.until(lambda: till.current)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await hops.until(lambda: not till.waits())
        till.go_on.set()
        sent, served = await halves(hops)
    assert (sent.attributes[RPC_STATUS], sent.attributes[PUBLISH_OUTCOME]) == ("CANCELLED", "unconfirmed")
    assert served.attributes[RPC_STATUS] == "CANCELLED"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refused_connection_is_returned(kind: str, call: Call, instrumented: Any, hops: Any) -> None:
    """Nobody listens there."""
    instrumented(GrpcInstrumentor())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(grpc.RpcError):
        await call(f"127.0.0.1:{port}", kind)
    [sent] = hops.of_kind(SpanKind.CLIENT)
    assert (sent.attributes[RPC_STATUS], sent.attributes[PUBLISH_OUTCOME]) == ("UNAVAILABLE", "returned")


async def test_a_name_nobody_knows_is_returned(call: Call, instrumented: Any, hops: Any) -> None:
    """DNS has no such host."""
    instrumented(GrpcInstrumentor())
    with pytest.raises(grpc.RpcError):
        await call("no-such-host.invalid:1", "UnaryUnary")
    assert [span.attributes[PUBLISH_OUTCOME] for span in hops.of_kind(SpanKind.CLIENT)] == ["returned"]


@pytest.mark.parametrize("end", ["cancel", "deadline", "close"])
async def test_a_stream_nobody_reads_ends(end: str, address: str, hops: Any) -> None:
    """A response stream that nobody iterates ends with its cancellation, its deadline or its channel."""
    async with grpc.aio.insecure_channel(address) as channel:
        unread = channel.unary_stream("/shop.Till/UnaryStream")(
            b"7", timeout=0.3 if end == "deadline" else None
        )
        if end == "cancel":
            await hops.until(lambda: hops.of_kind(SpanKind.SERVER))
            unread.cancel()
        if end != "close":
            await hops.until(lambda: hops.of_kind(SpanKind.CLIENT))
    await hops.until(lambda: hops.of_kind(SpanKind.CLIENT))
    [sent] = hops.of_kind(SpanKind.CLIENT)
    assert sent.attributes[RPC_STATUS] == ("DEADLINE_EXCEEDED" if end == "deadline" else "CANCELLED")
    assert sent.attributes[MESSAGES_RECEIVED] == 0


@pytest.mark.parametrize("single", [0, 1], ids=["", "single-threaded"])
async def test_a_blocking_stream_nobody_reads_ends(single: int, address: str, hops: Any) -> None:
    """The same for blocking callers, whose call objects are grpcio's own."""
    options = [("SingleThreadedUnaryStream", single)]
    with grpc.insecure_channel(address, options=options) as channel:
        unread: Any = channel.unary_stream("/shop.Till/UnaryStream")(b"7")
        assert isinstance(unread, grpc.Call)
        del unread
        gc.collect()
        await hops.until(lambda: hops.of_kind(SpanKind.CLIENT))


async def test_a_future_is_a_call_too(address: str, hops: Any) -> None:
    """`future` and `with_call` return what grpcio returns."""
    with grpc.insecure_channel(address) as channel:
        multi = channel.unary_unary("/shop.Till/UnaryUnary")
        future = multi.future(b"7")
        assert await asyncio.to_thread(future.result, TIMEOUT_S) == b"7"
        response, call = await asyncio.to_thread(multi.with_call, b"8")
        assert (response, call.code()) == (b"8", grpc.StatusCode.OK)
    await hops.until(lambda: len(hops.all()) == 4)
    assert len({span.attributes[MESSAGE_ID] for span in hops.all()}) == 2


class Relay(grpc.aio.UnaryUnaryClientInterceptor, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    """An application's own interceptor, which passes everything on."""

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details, request)

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details, request)


async def test_interceptors_of_the_application_double_nothing(address: str, hops: Any) -> None:
    """A call through interceptors is one call, and its messages are counted once."""
    async with grpc.aio.insecure_channel(address, interceptors=[Relay()]) as channel:
        assert await channel.unary_unary("/shop.Till/UnaryUnary")(b"7") == b"7"
        assert [r async for r in channel.unary_stream("/shop.Till/UnaryStream")(b"7")] == REQUESTS
        await hops.until(lambda: len(hops.all()) == 4)
    counts = [span.attributes.get(MESSAGES_RECEIVED) for span in hops.of_kind(SpanKind.CLIENT)]
    assert sorted(counts, key=str) == [3, None]


async def test_channels_made_before_are_covered(till: Till, hops: Any, instrumented: Any) -> None:
    """A channel and its multi-callables may be as old as they like."""
    async with grpc.aio.insecure_channel("127.0.0.1:1") as old:
        multi = old.unary_unary("/shop.Till/UnaryUnary")
        instrumented(GrpcInstrumentor())
        with pytest.raises(grpc.RpcError):
            await multi(b"7")
    assert len(hops.of_kind(SpanKind.CLIENT)) == 1


async def test_excluded_services_leave_no_trace(
    till: Till, hops: Any, instrumented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`OTEL_PYTHON_GRPC_EXCLUDED_SERVICES` keeps health checks out, on both sides."""
    monkeypatch.setenv("OTEL_PYTHON_GRPC_EXCLUDED_SERVICES", "grpc.health.v1.Health, shop.Till")
    instrumented(GrpcInstrumentor())
    server = grpc.aio.server(
        handlers=(grpc.method_handlers_generic_handler("shop.Till", async_handlers(till)),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    assert await by_aio(f"127.0.0.1:{port}", "UnaryUnary") == [b"7"]
    await server.stop(None)
    assert hops.all() == ()


async def test_uninstrumented_grpc_is_as_before(address: str, hops: Any) -> None:
    """Servers and channels that were made meanwhile record nothing any more."""
    instrumented_server = grpc.server
    GrpcInstrumentor().uninstrument()
    try:
        assert grpc.server is not instrumented_server
        assert not hasattr(grpc.aio.server, "__wrapped__")
        assert await by_aio(address, "UnaryUnary") == [b"7"]
        assert hops.all() == ()
    finally:
        GrpcInstrumentor().instrument()
