"""Calls as our instrumentation really records them, all the way to their verdicts."""

import asyncio
import socket
import uuid
from collections.abc import Iterator

import httpx
import pytest
from ledger_support import flat, judged
from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hopwatch.processor import HopSpanProcessor
from hopwatch.propagation import HopwatchPropagator
from hopwatch.transports.httpx import HTTPXClientInstrumentor
from hopwatch_collector.engine import Store

TIMEOUT_S = 20.0
NOW = 4_000.0
"""Seconds into the story of `ledger_support`, which began an hour ago, when all that was just recorded lies back."""


@pytest.fixture
def recorded() -> Iterator[InMemorySpanExporter]:
    """What an instrumented httpx records, through a provider of this test's own."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(HopSpanProcessor())
    provider.add_span_processor(SimpleSpanProcessor(memory))
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(HopwatchPropagator(before))
    HTTPXClientInstrumentor().instrument(tracer_provider=provider)
    yield memory
    HTTPXClientInstrumentor().uninstrument()
    propagate.set_global_textmap(before)


def verdicts(store: Store, recorded: InMemorySpanExporter) -> list[tuple[object, ...]]:
    """What the store makes of the calls recorded."""
    body = encode_spans(recorded.get_finished_spans()).SerializeToString()
    store.insert_otlp(body, str(uuid.uuid4()))
    return flat(judged(store, now=NOW, until=NOW), "producer", "verdict", "witnesses")


def test_a_refused_connection_is_returned(store: Store, recorded: InMemorySpanExporter) -> None:
    """There was nowhere to route it, says the one witness there is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/")
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

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, httpx.AsyncClient() as client:
        await client.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert verdicts(store, recorded) == [("shop", verdict, ["producer"])]
