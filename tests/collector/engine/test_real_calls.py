"""Calls as our instrumentation really records them, all the way to their verdicts."""

import asyncio
import socket
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from ledger_support import T0, flat, judged
from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from hopwatch.processor import HopSpanProcessor
from hopwatch.propagation import HopwatchPropagator
from hopwatch.transports.grpc import GrpcInstrumentor
from hopwatch.transports.httpx import HTTPXClientInstrumentor
from hopwatch.transports.websockets import WebSocketsInstrumentor
from hopwatch_collector.engine import Store
from hopwatch_demo.patience import scale_wait

TIMEOUT_S = scale_wait(20.0)
LATER_S = 400.0
"""When the verdicts are asked for: long after every deadline."""


@pytest.fixture
def recorded() -> Iterator[InMemorySpanExporter]:
    """What instrumented libraries record, through a provider of this test's own."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(HopSpanProcessor())
    provider.add_span_processor(SimpleSpanProcessor(memory))
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(HopwatchPropagator(before))
    instrumentors = HTTPXClientInstrumentor(), WebSocketsInstrumentor(), GrpcInstrumentor()
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=provider)
    yield memory
    for instrumentor in instrumentors:
        instrumentor.uninstrument()
    propagate.set_global_textmap(before)


def verdicts(store: Store, recorded: InMemorySpanExporter) -> list[tuple[object, ...]]:
    """What the store makes of the calls recorded."""
    body = encode_spans(recorded.get_finished_spans()).SerializeToString()
    store.insert_otlp(body, str(uuid.uuid4()))
    later = (datetime.now(UTC) - T0).total_seconds() + LATER_S
    return flat(judged(store, now=later, until=later), "producer", "verdict", "witnesses")


def test_a_refused_connection_is_returned(store: Store, recorded: InMemorySpanExporter) -> None:
    """There was nowhere to route it, says the one witness there is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/", timeout=TIMEOUT_S)
    assert verdicts(store, recorded) == [("shop", "returned", ["producer"])]


def test_a_timeout_is_unconfirmed(store: Store, recorded: InMemorySpanExporter) -> None:
    """It may have arrived."""
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(httpx.ReadTimeout):
        httpx.get(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=httpx.Timeout(TIMEOUT_S, read=0.1))
    assert verdicts(store, recorded) == [("shop", "unconfirmed", ["producer"])]


@pytest.mark.parametrize(("status", "verdict"), [(200, "settled"), (503, "failed")])
async def test_an_answer_decides(
    store: Store, recorded: InMemorySpanExporter, status: int, verdict: str
) -> None:
    """A callee that is not instrumented is still heard: its answer is evidence."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
        httpx.AsyncClient(timeout=scale_wait(20)) as client,
    ):
        await client.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert verdicts(store, recorded) == [("shop", verdict, ["producer"])]


async def test_a_conversation_is_settled_message_by_message(
    store: Store, recorded: InMemorySpanExporter
) -> None:
    """The handshake is a call, each message after it a delivery of its own to the peer."""

    async def talk(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with (
        asyncio.timeout(TIMEOUT_S),
        serve(talk, "127.0.0.1", 0) as server,
        connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/room") as connection,
    ):
        await connection.send("one")
        await connection.recv()
    found = verdicts(store, recorded)
    assert found == [("shop", "settled", ["producer", "consumer"])] * 3


async def test_a_grpc_call_nobody_takes_is_returned(store: Store, recorded: InMemorySpanExporter) -> None:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError):
            await channel.unary_unary("/shop.Till/Pay")(b"7")
    assert verdicts(store, recorded) == [("shop", "returned", ["producer"])]


@pytest.mark.parametrize(
    ("code", "verdict"), [(grpc.StatusCode.NOT_FOUND, "settled"), (grpc.StatusCode.INTERNAL, "failed")]
)
async def test_a_grpc_status_decides(
    store: Store, recorded: InMemorySpanExporter, code: grpc.StatusCode, verdict: str
) -> None:
    """What the callee says of itself counts: a status that is an answer settles, one that is its fault does not."""

    async def pay(request: bytes, context: Any) -> bytes:
        await context.abort(code, "no")
        return b""

    handler = grpc.unary_unary_rpc_method_handler(pay)
    server = grpc.aio.server(handlers=(grpc.method_handlers_generic_handler("shop.Till", {"Pay": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError):
            await channel.unary_unary("/shop.Till/Pay")(b"7")
    await server.stop(None)
    assert verdicts(store, recorded) == [("shop", verdict, ["producer", "consumer"])]
