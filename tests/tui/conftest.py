"""A small real collector API for the terminal view's tests: HTTP on a free port, answers built from the API's models."""

import asyncio
import contextlib
import json
import socket
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from live_support import shop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from hopwatch import cli
from hopwatch_collector.api import models
from hopwatch_demo.patience import scale_wait

__all__ = ["shop"]

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    """That many seconds before the stub's clock."""
    return NOW - timedelta(seconds=seconds)


def flow_summary(number: int = 1, **fields: Any) -> models.FlowSummary:
    """A flow's line; `number` makes its id and start."""
    defaults: dict[str, Any] = {
        "flow_id": f"{number:032x}",
        "name": f"POST /orders/{number}",
        "service": "gateway",
        "state": "done",
        "started_at": ago(number),
        "last_at": ago(max(0, number - 1)),
        "duration_ms": 41.5,
        "spans": 9,
        "hops": 4,
        "undelivered": 0,
        "errors": 0,
        "services": ["gateway", "orders"],
        "keys": {"order_id": str(number)},
    }
    return models.FlowSummary(**defaults | fields)


def delivery(number: int = 1, **fields: Any) -> models.Delivery:
    """A hop of flow 1."""
    return models.Delivery(**_delivery(number) | fields)


def _delivery(number: int) -> dict[str, Any]:
    return {
        "message_id": str(uuid.UUID(int=number)),
        "receiver": "billing",
        "verdict": "settled",
        "reason": "acknowledged",
        "witnesses": ["producer", "consumer"],
        "since": ago(5),
        "system": "nats",
        "destination": "orders.placed",
        "producer": "orders",
        "consumer": "billing",
        "sent_at": ago(10 - number / 100),
        "received_at": ago(9.9 - number / 100),
        "settled_at": ago(9.8),
        "latency_ms": 12.4,
        "attempts": 1,
        "flow_id": f"{1:032x}",
        "trace_id": f"{1:032x}",
        "keys": {},
    }


def delivery_detail(
    number: int = 1, history: list[models.Attempt] | None = None, **fields: Any
) -> models.DeliveryDetail:
    """A delivery of a message, with attempts."""
    return models.DeliveryDetail(**_delivery(number) | fields, history=history or [])


def attempt(number: int = 1, **fields: Any) -> models.Attempt:
    """One handing-over."""
    defaults: dict[str, Any] = {
        "number": number,
        "service": "billing",
        "instance": "billing-1",
        "received_at": ago(10 - number),
        "ended_at": ago(9.9 - number),
        "settle_outcome": "ack",
        "error": "",
        "trace_id": f"{1:032x}",
        "span_id": f"{number:016x}",
    }
    return models.Attempt(**defaults | fields)


def message(
    number: int = 1, deliveries: list[models.DeliveryDetail] | None = None, **fields: Any
) -> models.Message:
    """A message of flow 1."""
    defaults: dict[str, Any] = {
        "message_id": str(uuid.UUID(int=number)),
        "aliases": [f"alias-{number}"],
        "system": "nats",
        "destination": "orders.placed",
        "producer": "orders",
        "flow_id": f"{1:032x}",
        "trace_id": f"{1:032x}",
        "span_id": f"{number:016x}",
        "sent_at": ago(10),
        "publish_outcome": "confirmed",
        "publish_reason": "",
        "partition": "ORDERS",
        "offset": 7,
        "conversation_id": "",
        "keys": {"order_id": "4711"},
        "deliveries": [delivery_detail(number, [attempt()])] if deliveries is None else deliveries,
    }
    return models.Message(**defaults | fields)


def span(number: int, parent: int = 0, **fields: Any) -> models.Span:
    """A span of flow 1, 10 ms long and starting `number` × 10 ms into it."""
    defaults: dict[str, Any] = {
        "trace_id": f"{1:032x}",
        "span_id": f"{number:016x}",
        "parent_span_id": f"{parent:016x}" if parent else "",
        "name": f"span {number}",
        "kind": "internal",
        "service": "orders",
        "instance": "orders-1",
        "started_at": ago(10) + timedelta(milliseconds=10 * number),
        "duration_ms": 10.0,
        "status": "unset",
        "status_message": "",
        "system": "",
        "operation": "",
        "destination": "",
        "receiver": "",
        "message_id": "",
        "attributes": {},
        "events": [],
        "links": [],
    }
    return models.Span(**defaults | fields)


def shop_flow() -> models.Flow:
    """Gateway calls orders; orders publishes to billing and mail; billing, while processing, publishes a receipt."""
    call, placed, receipt = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
    hops = [
        delivery(
            1,
            system="http",
            destination="POST /orders",
            producer="gateway",
            consumer="orders",
            receiver="orders",
        ),
        delivery(2),
        delivery(
            2,
            receiver="mail",
            consumer="",
            verdict="overdue",
            cause="overdue.unseen",
            reason="no sign of delivery yet (no broker evidence)",
            received_at=None,
            settled_at=None,
            latency_ms=None,
            attempts=0,
        ),
        delivery(3, destination="receipts", producer="billing", consumer="archive", receiver="archive"),
    ]
    spans = [
        span(1, kind="client", service="gateway", name="POST", message_id=call, duration_ms=60),
        span(2, 1, kind="server", name="POST /orders", message_id=call, duration_ms=50),
        span(
            3,
            2,
            kind="producer",
            name="publish orders.placed",
            message_id=placed,
            destination="orders.placed",
        ),
        span(
            4,
            3,
            kind="consumer",
            service="billing",
            receiver="billing",
            name="process orders.placed",
            message_id=placed,
        ),
        span(5, 4, service="billing", name="charge", status="error", status_message="card declined"),
        span(6, 5, kind="producer", service="billing", name="publish receipts", message_id=receipt),
        span(
            7,
            6,
            kind="consumer",
            service="archive",
            receiver="archive",
            name="process receipts",
            message_id=receipt,
        ),
    ]
    summary = flow_summary(1, name="POST /checkout", state="undelivered", undelivered=1, hops=4)
    return models.Flow(summary=summary, hops=hops, spans=spans, linked=[], truncated=False)


def lag_row(**fields: Any) -> models.LagRow:
    """A receiver three messages behind."""
    defaults: dict[str, Any] = {
        "system": "kafka",
        "destination": "orders.placed",
        "receiver": "billing",
        "waiting": 3,
        "in_flight": 1,
        "oldest_s": 4.25,
        "pending_reported": None,
        "last_received_at": ago(2),
        "sample_flow_ids": [f"{1:032x}"],
    }
    return models.LagRow(**defaults | fields)


def cause(**fields: Any) -> models.Cause:
    """Many messages that one receiver has not got, for one reason."""
    defaults: dict[str, Any] = {
        "cause": "overdue.held",
        "verdict": "overdue",
        "reason": "the broker has held it for longer than the deadline",
        "advice": "Start the receiver.",
        "system": "kafka",
        "destination": "orders.placed",
        "receiver": "billing",
        "deliveries": 2375,
        "first_at": ago(12_000),
        "last_at": ago(12),
        "sample_message_ids": [str(uuid.UUID(int=2)), str(uuid.UUID(int=3))],
    }
    return models.Cause(**defaults | fields)


def edge(**fields: Any) -> models.Edge:
    """Orders that reach billing."""
    defaults: dict[str, Any] = {
        "producer": "orders",
        "system": "kafka",
        "destination": "orders.placed",
        "receiver": "billing",
        "consumer": "billing-worker",
        "deliveries": 1812,
        "undelivered": 3,
        "errors": 1,
        "p50_ms": 12.5,
        "p99_ms": None,
    }
    return models.Edge(**defaults | fields)


def health(**fields: Any) -> models.Health:
    """A collector that is well and watches one broker."""
    defaults: dict[str, Any] = {
        "status": "ok",
        "reason": "",
        "version": "0.1.0",
        "journal_backlog_bytes": 4096,
        "engine": "chdb 3.6.0",
        "witnesses": [models.WitnessHealth(system="kafka", broker="kafka:9092", trouble="")],
    }
    return models.Health(**defaults | fields)


def live(flows: list[models.FlowSummary] | None = None, **fields: Any) -> models.Live:
    """A snapshot."""
    defaults: dict[str, Any] = {
        "at": NOW,
        "window_s": 300,
        "flows": flows or [],
        "verdicts": [],
        "lag": [],
        "undelivered": [],
        "spans_per_s": 35.2,
        "truncated": False,
    }
    return models.Live(**defaults | fields)


MAKE = SimpleNamespace(
    now=NOW,
    ago=ago,
    flow_summary=flow_summary,
    delivery=delivery,
    delivery_detail=delivery_detail,
    attempt=attempt,
    message=message,
    span=span,
    shop_flow=shop_flow,
    lag_row=lag_row,
    cause=cause,
    edge=edge,
    health=health,
    live=live,
)


class StubApi:
    """The collector's query API as far as the terminal view uses it; a test sets what it knows."""

    def __init__(self) -> None:
        self.flows: dict[str, models.Flow] = {}
        self.messages: dict[str, models.Message] = {}
        self.deliveries: list[models.Delivery] = []
        self.lag: list[models.LagRow] = []
        self.hits: list[models.SearchHit] = []
        self.whys: dict[str, models.Why] = {}
        self.causes: list[models.Cause] = []
        self.summaries: list[models.FlowSummary] = []
        self.edges: list[models.Edge] = []
        self.health = health()
        self.invalid: list[models.InvalidParameter] = []
        self.failing_paths: dict[str, str] = {}
        self.clocks = models.ClockList(
            reference="here", collector="here", left_out=[], clocks=[], truncated=False
        )
        self.token = ""
        self.failing = ""
        self.quiet = False
        self.asked: list[tuple[str, list[tuple[str, str]]]] = []
        self._snapshot = live()
        self._changed: list[asyncio.Event] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def show(self, snapshot: models.Live) -> None:
        """Send another snapshot to everybody who watches."""
        self._snapshot = snapshot
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: [event.set() for event in self._changed])

    def start(self) -> None:
        """Answer, from a thread of its own, at the same address as ever."""
        ready = threading.Event()
        app = Starlette(routes=[Route("/healthz", self._healthz), Route("/api/v1/{path:path}", self._answer)])
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, host="127.0.0.1", port=self.port, log_level="error", lifespan="off", ws="none"
            )
        )

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(ready.set)
            await self._server.serve()

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()))
        self._thread.start()
        assert ready.wait(scale_wait(20))
        wait_for_port(self.port)

    def stop(self) -> None:
        """End, cutting off whoever still watches."""
        if self._server is None or self._loop is None or self._thread is None:
            return
        self._server.should_exit = self._server.force_exit = True
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: [event.set() for event in self._changed])
        self._thread.join(scale_wait(20))
        self._server = self._loop = self._thread = None

    async def _answer(self, request: Request) -> Response:
        self.asked.append((request.path_params["path"], list(request.query_params.multi_items())))
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return problem(401, "Unauthorized", "A read token is wanted")
        if self.failing:
            return problem(503, "Service Unavailable", self.failing)
        if self.invalid:
            return problem(
                422,
                "Unprocessable Content",
                "; ".join(one.detail for one in self.invalid),
                type="urn:hopwatch:problem:invalid-parameter",
                errors=[one.model_dump() for one in self.invalid],
            )
        kind, _, name = request.path_params["path"].partition("/")
        if kind in self.failing_paths:
            return problem(503, "Service Unavailable", self.failing_paths[kind])
        match kind:
            case "flows" if not name:
                return found(models.FlowList(flows=self.summaries, truncated=False))
            case "topology":
                return found(models.Topology(edges=self.edges, truncated=False))
            case "flows":
                return found(self.flows.get(name))
            case "messages":
                known = self.messages.values()
                return found(next((one for one in known if name in (one.message_id, *one.aliases)), None))
            case "deliveries":
                return found(models.DeliveryList(deliveries=self.deliveries, truncated=False))
            case "why":
                return found(self.whys.get(name))
            case "undelivered":
                return found(models.CauseList(causes=self.causes, truncated=False))
            case "lag":
                return found(models.LagList(rows=self.lag, truncated=False))
            case "clocks":
                return found(self.clocks)
            case "search":
                query = request.query_params.get("q", "")
                return found(models.SearchResult(query=query, hits=self.hits, truncated=False))
            case "live" if name == "snapshot":
                return found(self._snapshot)
            case "live":
                return StreamingResponse(self._stream(), media_type="text/event-stream")
        return problem(404, "Not Found", "There is nothing at this path")

    async def _healthz(self, request: Request) -> Response:
        self.asked.append(("healthz", []))
        status = 503 if self.health.status == "failing" else 200
        return Response(self.health.model_dump_json(), status_code=status, media_type="application/json")

    async def _stream(self) -> AsyncIterator[bytes]:
        event = asyncio.Event()
        self._changed.append(event)
        try:
            yield b"retry: 2000\n\n"
            while self._server is not None and not self._server.should_exit:
                if not self.quiet:
                    yield b"event: snapshot\ndata: " + self._snapshot.model_dump_json().encode() + b"\n\n"
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await event.wait()
                event.clear()
        finally:
            self._changed.remove(event)


def found(answer: Any) -> Response:
    """An answer, or that there is none."""
    if answer is None:
        return problem(404, "Not Found", "Nothing is known by this id")
    return Response(answer.model_dump_json(), media_type="application/json")


def problem(status: int, title: str, detail: str, **more: Any) -> Response:
    """Problem details."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return Response(json.dumps(body), status_code=status, media_type="application/problem+json")


def wait_for_port(port: int) -> None:
    """Until something answers there."""
    deadline = datetime.now(UTC) + timedelta(seconds=scale_wait(20))
    while datetime.now(UTC) < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
    raise TimeoutError(f"nothing answers at port {port}")


@pytest.fixture
def make() -> SimpleNamespace:
    """Builders of API answers."""
    return MAKE


@pytest.fixture
def api() -> Iterator[StubApi]:
    """A running stub of the collector's API."""
    stub = StubApi()
    stub.start()
    yield stub
    stub.stop()


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    returncode: int
    stdout: bytes
    stderr: bytes


@pytest.fixture
def hopwatch(
    api: StubApi, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., Done]:
    """Runs a command against the stub as the console script does, its output into a pipe."""

    def run(*args: str, collector: str = api.url, **environment: str) -> Done:
        monkeypatch.delenv("HOPWATCH_READ_TOKEN", raising=False)
        for name, value in {"HOPWATCH_COLLECTOR": collector, "TZ": "UTC", **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["hopwatch", *args])
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        out, err = capfdbinary.readouterr()
        return Done(code if isinstance(code, int) else 0, out, err)

    return run
