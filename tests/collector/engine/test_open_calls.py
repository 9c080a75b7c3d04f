"""Calls that hang, as our instrumentation reports them while they do, and what the ledger says of them meanwhile."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import fastapi
import grpc
import grpc.aio
import httpx
import pytest
import uvicorn
from fastapi.responses import StreamingResponse
from ledger_support import T0, asked, judged
from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from hopwatch import reports
from hopwatch.conventions import REPORT
from hopwatch.processor import HopSpanProcessor
from hopwatch.propagation import HopwatchPropagator
from hopwatch.transports.fastapi import FastAPIInstrumentor
from hopwatch.transports.grpc import GrpcInstrumentor
from hopwatch.transports.httpx import HTTPXClientInstrumentor
from hopwatch_collector.api.models import Evidence, Message
from hopwatch_collector.engine import Row, Store
from hopwatch_collector.query.window import Window
from hopwatch_demo.patience import scale_wait

WITHIN_S = scale_wait(20.0)
SOON, LATE = 10.0, 400.0
"""Seconds from now: before and after the deadline of what just began."""


class Told:
    """What was recorded so far, on its way to the store."""

    def __init__(self, memory: InMemorySpanExporter, store: Store) -> None:
        self._memory = memory
        self._store = store

    async def reports(self, count: int) -> None:
        """Wait for so many reports of open calls."""
        await self.until(lambda: sum(REPORT in (span.attributes or {}) for span in self._spans()) >= count)

    async def served(self, count: int = 1) -> None:
        """Wait for so many callees to be done."""
        await self.until(lambda: sum(span.kind is SpanKind.SERVER for span in self._spans()) >= count)

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < deadline, [span.name for span in self._spans()]
            await asyncio.sleep(0.01)

    def deliveries(self, after: float) -> list[tuple[Any, ...]]:
        """Verdict, ground, destination, receiver and attempts of every delivery."""
        return [
            (row["cause"], row["destination"], row["receiver"], row["attempts"]) for row in self.rows(after)
        ]

    def rows(self, after: float) -> list[Row]:
        """Every delivery by all that was told until now, as it would stand so many seconds from now."""
        now = (datetime.now(UTC) - T0).total_seconds() + after
        self._store.insert_otlp(encode_spans(self._spans()).SerializeToString(), str(uuid.uuid4()))
        return judged(self._store, now=now, until=now)

    def explained(self) -> tuple[Message, list[Evidence]]:
        """The one message there is, and the evidence of its one delivery."""
        queries = asked(self._store)
        [row] = self.rows(LATE)
        message, why = queries.message(row["message"].hex()), queries.why(row["message"].hex())
        assert message is not None
        assert why is not None
        return message, why.explanations[0].evidence

    def shows_flow(self, *names: str) -> None:
        """Make sure that one flow is listed and opens, with these spans."""
        queries = asked(self._store)
        now = datetime.now(UTC)
        [listed] = queries.flows(Window(now - timedelta(hours=1), now + timedelta(hours=1))).flows
        flow = queries.flow(listed.flow_id)
        assert flow is not None
        assert sorted(span.name for span in flow.spans) == sorted(names)
        assert (listed.spans, listed.name in names) == (len(names), True)

    def _spans(self) -> Any:
        return self._memory.get_finished_spans()


@pytest.fixture
def told(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """Instrumented libraries whose calls count as lasting after a twentieth of a second."""
    monkeypatch.setattr(reports, "OPEN_AFTER_S", 0.05)
    monkeypatch.setattr(reports, "_TICK_S", 0.02)
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(HopSpanProcessor())
    provider.add_span_processor(SimpleSpanProcessor(memory))
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(HopwatchPropagator(before))
    instrumentors = HTTPXClientInstrumentor(), FastAPIInstrumentor(), GrpcInstrumentor()
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=provider)
    yield Told(memory, store)
    for instrumentor in instrumentors:
        instrumentor.uninstrument()
    reports.reporter.stop()
    propagate.set_global_textmap(before)


class Shop:
    """A service whose handlers wait until the test lets them go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.app = fastapi.FastAPI()
        self.app.get("/orders/{order}")(self.read)
        self.app.get("/events")(self.events)

    async def read(self, order: int) -> int:
        await self.go.wait()
        return order

    async def events(self) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            await self.go.wait()

        return StreamingResponse(parts(), media_type="text/event-stream")


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve an application on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(WITHIN_S):
        while not server.started:
            await asyncio.sleep(0)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await running


async def test_a_request_that_hangs_is_in_flight_then_stuck(told: Told) -> None:
    """Both halves say so while it lasts, with the route; its answer settles the same delivery, in one attempt."""
    shop = Shop()
    async with serving(shop.app) as host, httpx.AsyncClient(timeout=scale_wait(20)) as client:
        asking = asyncio.create_task(client.get(f"http://{host}/orders/7", timeout=WITHIN_S))
        await told.reports(2)
        assert told.deliveries(SOON) == [("in_flight.open", "GET /orders/{order}", "shop", 1)]
        told.shows_flow("open GET /orders/{order}", "open GET")
        message, why = told.explained()
        [attempt] = message.deliveries[0].history
        assert (attempt.number, attempt.service, attempt.ended_at) == (1, "shop", None)
        assert [one.says.partition("; ")[2] for one in why if one.witness == "producer"] == [
            "the send was not answered"
        ]
        assert [one.says for one in why if one.witness == "consumer"] == [
            "attempt 1 at shop has not ended, not settled"
        ]
        row = told.rows(LATE)[0]
        assert (row["verdict"], row["witnesses"]) == ("stuck", ["producer", "consumer"])
        assert row["why"] == "still being processed after the deadline"
        shop.go.set()
        await asking
    await told.served()
    assert told.deliveries(LATE) == [("settled.answered", "GET /orders/{order}", "shop", 1)]
    told.shows_flow("GET", "GET /orders/{order}")
    message, _ = told.explained()
    [ended] = message.deliveries[0].history
    assert ended.ended_at is not None
    assert (ended.span_id, ended.trace_id) == (attempt.span_id, attempt.trace_id)


async def test_a_hanging_request_of_a_caller_without_ids_is_shown(told: Told) -> None:
    """A browser or curl sends no message id: report and span of the callee meet under the same key all the same."""
    shop = Shop()
    async with serving(shop.app) as host:
        reader, writer = await asyncio.open_connection(*host.split(":"))
        writer.write(b"GET /orders/7 HTTP/1.1\r\nhost: shop\r\n\r\n")
        await told.reports(1)
        assert told.deliveries(LATE) == [("stuck.open", "GET /orders/{order}", "shop", 1)]
        shop.go.set()
        await reader.readuntil(b"\r\n\r\n")
        await told.served()
        assert told.deliveries(LATE) == [("settled.answered", "GET /orders/{order}", "shop", 1)]
        writer.close()


async def test_a_foreign_context_without_id_leads_to_the_same_key(told: Told) -> None:
    """So does a caller that sends a trace context of its own but no message id."""
    shop = Shop()
    async with serving(shop.app) as host:
        reader, writer = await asyncio.open_connection(*host.split(":"))
        parent = f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"
        writer.write(f"GET /orders/7 HTTP/1.1\r\nhost: shop\r\ntraceparent: {parent}\r\n\r\n".encode())
        await told.reports(1)
        assert [row["verdict"] for row in told.rows(SOON)] == ["in_flight"]
        shop.go.set()
        await reader.readuntil(b"\r\n\r\n")
        await told.served()
        assert [row["verdict"] for row in told.rows(SOON)] == ["settled"]
        writer.close()


async def test_an_answer_that_goes_on_is_never_stuck(told: Told) -> None:
    """Server-sent events last: once their answer has begun the call is in flight, and the words say why."""
    shop = Shop()
    async with (
        serving(shop.app) as host,
        httpx.AsyncClient(timeout=scale_wait(20)) as client,
        client.stream("GET", f"http://{host}/events", timeout=WITHIN_S) as answer,
    ):
        assert answer.status_code == 200
        await told.reports(1)
        row = told.rows(LATE)[0]
        assert (row["verdict"], row["destination"]) == ("in_flight", "GET /events")
        assert row["why"] == "its answer has begun and goes on: a stream may last"
        assert row["due_at"].year == 1970
        shop.go.set()


async def test_an_answer_that_begins_late_takes_the_word_stuck_back(told: Told) -> None:
    """Reported before its answer began, a call is reported again when it does."""
    shop = Shop()
    parts = asyncio.Event()

    @shop.app.get("/slow")
    async def slow() -> StreamingResponse:
        async def later() -> AsyncIterator[bytes]:
            yield b"first"
            await parts.wait()

        await shop.go.wait()
        return StreamingResponse(later())

    async with serving(shop.app) as host:
        reader, writer = await asyncio.open_connection(*host.split(":"))
        writer.write(b"GET /slow HTTP/1.1\r\nhost: shop\r\n\r\n")
        await told.reports(1)
        assert [row["cause"] for row in told.rows(LATE)] == ["stuck.open"]
        shop.go.set()
        await told.reports(2)
        assert [row["cause"] for row in told.rows(LATE)] == ["in_flight.streaming"]
        parts.set()
        await reader.readuntil(b"\r\n\r\n")
        writer.close()


async def test_a_caller_alone_shows_that_no_answer_came_yet(told: Told) -> None:
    """Where the callee is not seen the caller's word is all there is, and the receiver is the address called."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    go = asyncio.Event()
    async with (
        await asyncio.start_server(silent, "127.0.0.1", 0) as server,
        httpx.AsyncClient(timeout=scale_wait(20)) as client,
    ):
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        asking = asyncio.create_task(client.post(f"http://{host}/pay", timeout=WITHIN_S))
        await told.reports(1)
        assert told.deliveries(SOON) == [("in_flight.unanswered", "POST 127.0.0.1", "127.0.0.1", 0)]
        row = told.rows(LATE)[0]
        assert (row["cause"], row["witnesses"]) == ("stuck.unanswered", ["producer"])
        assert row["since"] == row["sent_at"]
        go.set()
        await asking
    assert told.deliveries(LATE) == [("settled.callee_unseen", "POST 127.0.0.1", "127.0.0.1", 0)]


async def test_grpc_calls_that_hang_are_shown_and_streams_are_not_stuck(told: Told) -> None:
    """A unary call without an answer is stuck after its deadline; a stream that has begun is in flight."""
    go = asyncio.Event()

    async def pay(request: bytes, context: Any) -> bytes:
        await go.wait()
        return request

    async def watch(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield request
        await go.wait()

    handlers = {
        "Pay": grpc.unary_unary_rpc_method_handler(pay),
        "Watch": grpc.unary_stream_rpc_method_handler(watch),
    }
    server = grpc.aio.server(handlers=(grpc.method_handlers_generic_handler("shop.Till", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        paying = channel.unary_unary("/shop.Till/Pay")(b"7")
        watching = channel.unary_stream("/shop.Till/Watch")(b"7")
        assert await watching.read() == b"7"
        await told.reports(4)
        assert {row["destination"]: row["cause"] for row in told.rows(LATE)} == {
            "shop.Till/Pay": "stuck.open",
            "shop.Till/Watch": "in_flight.streaming",
        }
        go.set()
        assert await paying == b"7"
        assert await watching.read() == grpc.aio.EOF
    await told.served(2)
    await server.stop(None)
    assert [row["verdict"] for row in told.rows(LATE)] == ["settled", "settled"]


async def test_calls_that_end_in_time_leave_no_report(told: Told) -> None:
    """What is answered at once is watched no longer: nothing is left to report."""
    shop = Shop()
    shop.go.set()
    async with serving(shop.app) as host, httpx.AsyncClient(timeout=scale_wait(20)) as client:
        await client.get(f"http://{host}/orders/7")
        assert not reports.reporter.in_progress
    assert told.deliveries(LATE) == [("settled.answered", "GET /orders/{order}", "shop", 1)]
