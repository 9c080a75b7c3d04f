"""gRPC, blocking and asyncio: the four kinds of calls, statuses, deadlines, and streams nobody reads."""

import asyncio
import gc
import json
import socket
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_till import (
    KINDS,
    REQUESTS,
    TIMEOUT_S,
    Call,
    Till,
    async_handlers,
    blocking_handlers,
    by_aio,
    by_blocking,
)
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcAioInstrumentorServer
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from hopwatch.conventions import (
    ATTEMPT,
    ERROR_TYPE,
    MESSAGE_ID,
    MESSAGES_RECEIVED,
    MESSAGES_SENT,
    PUBLISH_OUTCOME,
    REPORT,
    RPC_METHOD,
    RPC_STATUS,
    SERVER_PORT,
)
from hopwatch.transports.grpc import GrpcInstrumentor
from hopwatch.transports.grpc.server import HANDLERS as KEPT
from hopwatch_demo.patience import scale_wait

GIVES_UP_S = scale_wait(1.0)
"""After which a caller gives up: by then the call must have begun on both sides."""


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
    """Return the two spans of the one call there was, and make sure that there are no others.

    A call that takes longer than a second, as it may on a busy machine, was reported while it was open.
    """

    def ended(kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in hops.of_kind(kind) if REPORT not in (span.attributes or {})]

    await hops.until(lambda: ended(SpanKind.CLIENT) and ended(SpanKind.SERVER))
    [sent], [served] = ended(SpanKind.CLIENT), ended(SpanKind.SERVER)
    assert len(hops.all()) == 2 + len(hops.reports("open"))
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
        await call(address, "UnaryUnary", b"hang", timeout=GIVES_UP_S)
    # By its own clock the server learns of it a little later: a handler that ends before that has answered.
    await hops.until(lambda: (till.left() or 0.0) <= 0.0)
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


async def test_an_asyncio_stream_that_is_dropped_lasts_as_long_as_grpcio_keeps_it(
    address: str, hops: Any
) -> None:
    """grpcio holds a call that goes on, dropped or not; its hop ends with it, at the latest with the channel."""
    async with grpc.aio.insecure_channel(address) as channel:
        unread: Any = channel.unary_stream("/shop.Till/UnaryStream")(b"7")
        call = weakref.ref(unread)
        await hops.until(lambda: hops.of_kind(SpanKind.SERVER))
        del unread
        gc.collect()
        assert (call() is None) is bool(hops.of_kind(SpanKind.CLIENT))
    await hops.until(lambda: hops.of_kind(SpanKind.CLIENT))
    [sent] = hops.of_kind(SpanKind.CLIENT)
    assert sent.attributes[RPC_STATUS] == "CANCELLED"


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


async def test_what_contrib_instruments_is_left_to_it(till: Till, hops: Any, instrumented: Any) -> None:
    """Under `opentelemetry-instrument` a call is recorded once, by those who came first."""
    instrumented(GrpcAioInstrumentorClient(), GrpcAioInstrumentorServer(), GrpcInstrumentor())
    server = grpc.aio.server(
        handlers=(grpc.method_handlers_generic_handler("shop.Till", async_handlers(till)),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    assert await by_aio(f"127.0.0.1:{port}", "UnaryUnary") == [b"7"]
    await server.stop(None)
    sent, served = await halves(hops)
    assert sent.attributes[MESSAGE_ID] == served.attributes[MESSAGE_ID]
    assert sent.instrumentation_scope.name == "opentelemetry.instrumentation.grpc"


async def test_handlers_made_for_each_call_are_not_kept(hops: Any, instrumented: Any) -> None:
    """An application that makes a handler per call has each recorded, and only the last few of them kept."""
    instrumented(GrpcInstrumentor())
    made: list[weakref.ref[Any]] = []

    class Fresh(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            async def answer(request: bytes, context: Any) -> bytes:
                return request

            made.append(weakref.ref(answer))
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server(handlers=(Fresh(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        multi = channel.unary_unary("/shop.Till/UnaryUnary")
        for _ in range(2 * KEPT + 5):
            assert await multi(b"7") == b"7"
    await server.stop(None)
    gc.collect()
    assert len(hops.of_kind(SpanKind.SERVER)) == len(made) == 2 * KEPT + 5
    assert sum(1 for answer in made if answer() is not None) <= KEPT


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


async def test_what_grpc_sends_again_by_itself_is_numbered(till: Till, instrumented: Any, hops: Any) -> None:
    """Under one id, by the policy of its channel: the server tells the attempts apart."""
    instrumented(GrpcInstrumentor())
    times = iter(range(3))

    def flaky(request: bytes, context: grpc.ServicerContext) -> bytes:
        if next(times) < 2:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return request

    handlers = {"UnaryUnary": grpc.unary_unary_rpc_method_handler(flaky)}
    policy = {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }  # fmt: skip

    def ask(port: int) -> bytes:
        options = [("grpc.service_config", json.dumps(policy))]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            answer: bytes = channel.unary_unary("/shop.Till/UnaryUnary")(b"1", timeout=TIMEOUT_S)
            return answer

    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, (grpc.method_handlers_generic_handler("shop.Till", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        assert await asyncio.to_thread(ask, port) == b"1"
        await hops.until(lambda: len(hops.of_kind(SpanKind.SERVER)) == 3)
        server.stop(None).wait(TIMEOUT_S)
    [asked] = hops.of_kind(SpanKind.CLIENT)
    served = hops.of_kind(SpanKind.SERVER)
    assert {span.attributes[MESSAGE_ID] for span in served} == {asked.attributes[MESSAGE_ID]}
    assert [span.attributes.get(ATTEMPT, 1) for span in served] == [1, 2, 3]
