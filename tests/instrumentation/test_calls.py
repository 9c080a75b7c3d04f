"""HTTP and gRPC calls on either path: our own wrappers, and OpenTelemetry's packages with our propagator."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import fastapi
import grpc
import grpc.aio
import httpx
import pytest
import starlette.applications
import uvicorn
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router

from hopwatch.asgi import Middleware
from hopwatch.conventions import MESSAGE_ID
from hopwatch.transports.fastapi import FastAPIInstrumentor
from hopwatch.transports.grpc import GrpcInstrumentor
from hopwatch.transports.httpx import HTTPXClientInstrumentor
from hopwatch.transports.starlette import StarletteInstrumentor
from hopwatch_demo.patience import scale_wait


@pytest.fixture(params=["native", "contrib"])
def instrumented(
    request: pytest.FixtureRequest, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InMemorySpanExporter]:
    """Servers, httpx and gRPC instrumented for one test, on the path `HOPWATCH_CALLS` says."""
    monkeypatch.setenv("HOPWATCH_CALLS", request.param)
    instrumentors = (
        FastAPIInstrumentor(),
        StarletteInstrumentor(),
        HTTPXClientInstrumentor(),
        GrpcInstrumentor(),
    )
    for instrumentor in instrumentors:
        instrumentor.instrument()
    yield spans
    for instrumentor in instrumentors:
        instrumentor.uninstrument()


def of_kind(spans: InMemorySpanExporter, kind: SpanKind) -> list[ReadableSpan]:
    """Return the ended spans of one kind."""
    return [span for span in spans.get_finished_spans() if span.kind is kind]


def fastapi_shop() -> Any:
    """The shop on FastAPI."""
    app = fastapi.FastAPI()

    @app.get("/orders/{order}")
    async def read(order: int) -> dict[str, int]:
        return {"order": order}

    return app


async def read(request: Request) -> JSONResponse:
    return JSONResponse({"order": int(request.path_params["order"])})


def starlette_shop() -> Any:
    """The shop on Starlette."""
    return starlette.applications.Starlette(routes=[Route("/orders/{order}", read)])


def asgi_shop() -> Any:
    """The shop on no framework that anybody instruments."""
    return Middleware(Router(routes=[Route("/orders/{order}", read)]))


@pytest.fixture(params=[fastapi_shop, starlette_shop, asgi_shop])
async def shop(request: pytest.FixtureRequest, instrumented: InMemorySpanExporter) -> AsyncIterator[str]:
    """A service on a free port; yields its URL."""
    config = uvicorn.Config(request.param(), host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(scale_wait(20)):
        while not server.started:
            await asyncio.sleep(0)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving


async def test_an_http_call_is_one_message_with_two_halves(
    shop: str, instrumented: InMemorySpanExporter
) -> None:
    """Client and server span carry the same message id, and the request makes just these two spans."""
    async with httpx.AsyncClient(timeout=scale_wait(20)) as client:
        answer = await client.get(f"{shop}/orders/7")
    assert answer.json() == {"order": 7}
    [sent], [served] = of_kind(instrumented, SpanKind.CLIENT), of_kind(instrumented, SpanKind.SERVER)
    assert (sent.attributes or {})[MESSAGE_ID] == (served.attributes or {})[MESSAGE_ID]
    assert len(instrumented.get_finished_spans()) == 2
    assert served.parent is not None
    assert served.parent.span_id == sent.context.span_id


def test_the_path_chosen_is_the_path_taken(
    instrumented: InMemorySpanExporter, request: pytest.FixtureRequest
) -> None:
    """`HOPWATCH_CALLS` decides whose wrappers are in force."""
    contrib = "contrib" in request.node.name
    assert (fastapi.FastAPI.__module__ != "fastapi.applications") is contrib
    assert hasattr(vars(fastapi.FastAPI).get("__call__"), "__wrapped__") is not contrib


async def test_two_http_calls_are_two_messages(shop: str, instrumented: InMemorySpanExporter) -> None:
    """Every request has an id of its own."""
    async with httpx.AsyncClient(timeout=scale_wait(20)) as client:
        await client.get(f"{shop}/orders/7")
        await client.get(f"{shop}/orders/7")
    assert len({(span.attributes or {})[MESSAGE_ID] for span in of_kind(instrumented, SpanKind.CLIENT)}) == 2


async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    """Answer with what was asked."""
    return request


async def test_a_grpc_call_is_one_message_with_two_halves(instrumented: InMemorySpanExporter) -> None:
    """Client and server span of an asyncio unary call carry the same message id."""
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("shop.Payments", {"Pay": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await channel.unary_unary("/shop.Payments/Pay")(b"7") == b"7"
    await server.stop(None)
    [sent], [served] = of_kind(instrumented, SpanKind.CLIENT), of_kind(instrumented, SpanKind.SERVER)
    assert (sent.attributes or {})[MESSAGE_ID] == (served.attributes or {})[MESSAGE_ID]


def test_a_blocking_grpc_call_carries_its_id_too(instrumented: InMemorySpanExporter) -> None:
    """The blocking client and server meet under one message id."""
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("shop.Payments", {"Pay": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert channel.unary_unary("/shop.Payments/Pay")(b"7") == b"7"
    server.stop(None).wait()
    [sent], [served] = of_kind(instrumented, SpanKind.CLIENT), of_kind(instrumented, SpanKind.SERVER)
    assert (sent.attributes or {})[MESSAGE_ID] == (served.attributes or {})[MESSAGE_ID]
