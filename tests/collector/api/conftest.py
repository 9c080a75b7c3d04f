"""The API on a real server: over answers a test decides, for what concerns the API alone."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from hopwatch_collector.api.app import create_app, end_streams
from hopwatch_collector.api.models import (
    CauseList,
    ClockList,
    DeliveryList,
    Flow,
    FlowList,
    Health,
    LagList,
    Live,
    LossList,
    Message,
    SearchResult,
    Topology,
    Why,
)
from hopwatch_collector.api.ports import Family, Sample
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.settings import Settings
from hopwatch_demo.patience import scale_wait


@dataclass
class Answers:
    """Empty answers, noting what was asked; a test makes them fail or wait."""

    asked: list[tuple[str, Any]] = field(default_factory=list)
    error: Exception | None = None
    hold: threading.Event | None = None
    samples: list[Sample] = field(default_factory=list)

    def _note(self, name: str, what: object) -> None:
        self.asked.append((name, what))
        if self.hold is not None:
            assert self.hold.wait(scale_wait(30)), "the test never let go of the query"
        if self.error is not None:
            raise self.error

    def count(self, name: str) -> int:
        """How often `name` was asked."""
        return sum(1 for asked, _ in self.asked if asked == name)

    def flows(self, window: object, **rest: object) -> FlowList:
        self._note("flows", {"window": window, **rest})
        return FlowList(truncated=False, flows=[])

    def flow(self, flow_id: str) -> Flow | None:
        self._note("flow", flow_id)
        return None

    def message(self, id_or_alias: str) -> Message | None:
        self._note("message", id_or_alias)
        return None

    def deliveries(self, window: object, **rest: object) -> DeliveryList:
        self._note("deliveries", {"window": window, **rest})
        return DeliveryList(truncated=False, deliveries=[])

    def undelivered(self, window: object, **rest: object) -> CauseList:
        self._note("undelivered", {"window": window, **rest})
        return CauseList(truncated=False, causes=[])

    def why(self, id_or_alias: str) -> Why | None:
        self._note("why", id_or_alias)
        return None

    def lag(self, since: datetime | None = None) -> LagList:
        self._note("lag", since)
        return LagList(truncated=False, rows=[])

    def losses(self, since: datetime, **rest: object) -> LossList:
        self._note("losses", {"since": since, **rest})
        return LossList(truncated=False, losses=[])

    def topology(self, window: object) -> Topology:
        self._note("topology", window)
        return Topology(truncated=False, edges=[])

    def clocks(self, at: object = None) -> ClockList:
        self._note("clocks", at)
        return ClockList(truncated=False, reference="here", collector="here", left_out=[], clocks=[])

    def search(self, query: object) -> SearchResult:
        self._note("search", query)
        return SearchResult(truncated=False, query="", hits=[])

    def live(self, window_s: float) -> Live:
        self._note("live", window_s)
        return Live(
            at=datetime.now(UTC),
            judged_at=datetime.now(UTC),
            window_s=window_s,
            flows=[],
            verdicts=[],
            lag=[],
            undelivered=[],
            spans_per_s=0,
            truncated=False,
        )

    def metrics(self) -> Iterable[Family]:
        self._note("metrics", None)
        return [("everything", lambda: self.samples)]


def healthy() -> Health:
    """A collector in good health."""
    return Health(status="ok", reason="", version="0", journal_backlog_bytes=0, engine="none")


@asynccontextmanager
async def serve(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """`app` on a real socket, and a client of it."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="on", ws="none")
    )
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(scale_wait(20)):
        while not server.started:
            await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=scale_wait(20), trust_env=False
        ) as client:
            yield client
    finally:
        end_streams(app)
        server.should_exit = True
        async with asyncio.timeout(scale_wait(20)):
            await task


@pytest.fixture(name="serve")
def serve_fixture() -> Callable[[FastAPI], AbstractAsyncContextManager[httpx.AsyncClient]]:
    """Serve an application of the test's own."""
    return serve


Serving = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def answers() -> Answers:
    """What the API asks."""
    return Answers()


@pytest.fixture
def serving(answers: Answers) -> Serving:
    """Serve the API over `answers`, with settings and health as a test wants them."""

    def with_settings(check: Callable[[], Health] = healthy, **settings: Any) -> Any:
        return serve(create_app(answers, Settings(**settings), Metrics(), check))

    return with_settings


@pytest.fixture
async def client(serving: Serving) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an open API on loopback."""
    async with serving() as opened:
        yield opened
