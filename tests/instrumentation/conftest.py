"""Spans of these tests go to memory: one provider for the run, because the API lets it be set only once."""

from collections.abc import Iterator
from typing import cast

import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hopwatch.lean.provider import LeanTracerProvider, Outlet
from hopwatch.lean.sent import LeanSend
from hopwatch.lean.span import LeanSpan
from hopwatch.processor import HopSpanProcessor
from hopwatch.propagation import HopwatchPropagator
from hopwatch.reports import reporter


@pytest.fixture(scope="session")
def span_memory() -> InMemorySpanExporter:
    """The exporter behind the run's one tracer provider."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "under-test"}), shutdown_on_exit=False)
    provider.add_span_processor(HopSpanProcessor())
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    return memory


@pytest.fixture
def provider_kind() -> str:
    """Whose provider the spans of a test go through: `lean`, ours, as by default, or `sdk`, an application's own."""
    return "lean"


class _IntoMemory:
    """An outlet of our provider that keeps what ends in the span memory."""

    def __init__(self, memory: InMemorySpanExporter) -> None:
        self._memory = memory

    def put(self, span: LeanSpan | LeanSend) -> None:
        """Keep a span, or the one that a send is."""
        self._memory.export([span.span() if isinstance(span, LeanSend) else span])


@pytest.fixture
def provided(
    span_memory: InMemorySpanExporter, provider_kind: str, monkeypatch: pytest.MonkeyPatch
) -> InMemorySpanExporter:
    """The span memory behind the provider that was asked for."""
    if provider_kind == "lean":
        outlet = cast(Outlet, _IntoMemory(span_memory))
        ours = LeanTracerProvider(Resource({"service.name": "under-test"}), outlet)
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", ours)
    return span_memory


@pytest.fixture(scope="module")
def by_hand() -> Iterator[None]:
    """hopwatch's propagator around the default ones, which it reads and writes by hand: what the quick lane asks for."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(HopwatchPropagator(before))
    yield
    propagate.set_global_textmap(before)


@pytest.fixture
def spans(provided: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    """Empty span memory with hopwatch's propagator around the application's, as `instrument` sets it up."""
    span_memory = provided
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(HopwatchPropagator(before))
    span_memory.clear()
    yield span_memory
    reporter.stop()
    propagate.set_global_textmap(before)
    span_memory.clear()
