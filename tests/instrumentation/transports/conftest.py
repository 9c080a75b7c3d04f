"""What the tests of all transports look at: hops by kind, and waiting for them with a deadline."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import pytest
import uvicorn
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from hopwatch import faults
from hopwatch.conventions import MESSAGING_OPERATION_TYPE, REPORT
from hopwatch_demo.patience import scale_wait

WITHIN_S = scale_wait(20.0)


class Hops:
    """The spans of a test, told apart by what they record."""

    def __init__(self, spans: InMemorySpanExporter) -> None:
        self._spans = spans

    def sends(self) -> list[ReadableSpan]:
        """Return the ended sends in the order of their ends."""
        return self._operation(SpanKind.PRODUCER, "send")

    def processes(self) -> list[ReadableSpan]:
        """Return the ended attempts in the order of their ends."""
        return self._operation(SpanKind.CONSUMER, "process")

    def settles(self) -> list[ReadableSpan]:
        """Return the settlements that are spans of their own."""
        return self._operation(SpanKind.CLIENT, "settle")

    def of_kind(self, kind: SpanKind) -> list[ReadableSpan]:
        """Return the ended spans of one kind, in the order of their ends."""
        return [span for span in self._spans.get_finished_spans() if span.kind is kind]

    def reports(self, kind: str) -> list[dict[str, Any]]:
        """Return the attributes of the reports of one kind."""
        return [said(span) for span in self._spans.get_finished_spans() if said(span).get(REPORT) == kind]

    def all(self) -> tuple[ReadableSpan, ...]:
        """Return every ended span."""
        return self._spans.get_finished_spans()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds; fail after twenty seconds."""
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < deadline, f"never came; there are {[span.name for span in self.all()]}"
            await asyncio.sleep(0.01)

    async def processed(self, count: int = 1) -> list[ReadableSpan]:
        """Return the attempts once there are this many."""
        await self.until(lambda: len(self.processes()) >= count)
        return self.processes()

    def _operation(self, kind: SpanKind, operation: str) -> list[ReadableSpan]:
        return [
            span
            for span in self._spans.get_finished_spans()
            if span.kind is kind and said(span).get(MESSAGING_OPERATION_TYPE) == operation
        ]


def said(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes."""
    return dict(span.attributes or {})


@pytest.fixture
def hops(spans: InMemorySpanExporter) -> Hops:
    """The spans of this test."""
    return Hops(spans)


@pytest.fixture
def unique() -> str:
    """A name that no other test uses at the broker."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(autouse=True)
def _no_faults() -> Any:
    """No test may make hopwatch swallow an error of its own."""
    before = faults.counts()
    yield
    assert faults.counts() == before


@asynccontextmanager
async def _listening(app: Any) -> AsyncIterator[str]:
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(WITHIN_S):
        while not server.started:
            await asyncio.sleep(0)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Any], Awaitable[str]]]:
    """A function that runs an ASGI application on a free port until the test ends, and returns host:port."""
    async with AsyncExitStack() as stack:
        yield lambda app: stack.enter_async_context(_listening(app))


@pytest.fixture
def instrumented() -> Iterator[Callable[..., None]]:
    """A function that turns instrumentors on until the test ends."""
    with ExitStack() as stack:

        def turn_on(*instrumentors: Any) -> None:
            for instrumentor in instrumentors:
                instrumentor.instrument()
                stack.callback(instrumentor.uninstrument)

        yield turn_on
