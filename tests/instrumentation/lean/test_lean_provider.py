"""The lean provider behind the OpenTelemetry API: what applications and other instrumentations rely on."""

import asyncio
import inspect
import json
import logging
from io import StringIO

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags

from hopwatch.context import with_incoming
from hopwatch.conventions import FLOW_ID, MESSAGE_ID
from hopwatch.lean.provider import LeanTracerProvider
from hopwatch.lean.span import LeanSpan
from hopwatch.ready import Ready

RESOURCE = Resource({"service.name": "under-test"})
FLOW = "f" * 32


class Memory:
    """An outlet that keeps ended spans."""

    def __init__(self) -> None:
        self.spans: list[LeanSpan] = []
        self.put = self.spans.append


@pytest.fixture
def memory() -> Memory:
    """Where the spans of a test go."""
    return Memory()


@pytest.fixture
def provider(memory: Memory) -> LeanTracerProvider:
    """A lean provider without export."""
    return LeanTracerProvider(RESOURCE, memory)


@pytest.fixture
def tracer(provider: LeanTracerProvider) -> trace.Tracer:
    """A tracer of some other instrumentation."""
    return provider.get_tracer("some.library", "1.0", "https://schema", {"a": 1})


def remote(flags: int = 1, flow: str | None = None) -> Context:
    """Return the context of a caller elsewhere."""
    state = trace.TraceState([("hw", flow)]) if flow else None
    context = SpanContext(0xABC, 0xDEF, True, TraceFlags(flags), state)
    return trace.set_span_in_context(NonRecordingSpan(context), Context())


def test_a_span_can_be_read_like_the_sdks(tracer: trace.Tracer) -> None:
    """Everything that instrumentations and processors read of a span is there while it runs."""
    link = SpanContext(1, 2, True)
    span = tracer.start_span(
        "work", remote(), SpanKind.SERVER, {"a": 1}, links=[Link(link, {"why": "x"})], start_time=5
    )
    assert isinstance(span, ReadableSpan)
    span.add_event("seen", {"b": 2}, timestamp=6)
    assert (span.name, span.kind, span.start_time, span.end_time) == ("work", SpanKind.SERVER, 5, None)
    assert (dict(span.attributes or {}), span.resource) == ({"a": 1}, RESOURCE)
    assert span.parent is not None
    assert (span.parent.span_id, span.context.trace_id, span.context.is_remote) == (0xDEF, 0xABC, False)
    assert [(event.name, event.timestamp, dict(event.attributes or {})) for event in span.events] == [
        ("seen", 6, {"b": 2})
    ]
    assert [(found.context, dict(found.attributes or {})) for found in span.links] == [(link, {"why": "x"})]
    scope = span.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version, scope.schema_url) == ("some.library", "1.0", "https://schema")
    assert dict(scope.attributes or {}) == {"a": 1}
    span.end(9)
    assert (span.end_time, span.is_recording()) == (9, False)


def test_parents_and_roots(tracer: trace.Tracer) -> None:
    """A child belongs to its parent's trace; without a parent, or with an empty context, a new trace begins."""
    with tracer.start_as_current_span("parent") as parent:
        child = tracer.start_span("child")
        apart = tracer.start_span("apart", context=Context())
    assert child.get_span_context().trace_id == parent.get_span_context().trace_id
    assert child.parent == parent.get_span_context()  # type: ignore[attr-defined]
    assert apart.parent is None  # type: ignore[attr-defined]
    flags = apart.get_span_context().trace_flags
    assert (flags.sampled, flags.random_trace_id) == (True, True)
    assert len({span.get_span_context().span_id for span in (parent, child, apart)}) == 3


def test_ok_is_final_and_unset_is_never_set_again(tracer: trace.Tracer) -> None:
    """The rules of `set_status`."""
    span = tracer.start_span("work")
    span.set_status(StatusCode.ERROR, "no")
    span.set_status(StatusCode.UNSET)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "no")  # type: ignore[attr-defined]
    span.set_status(trace.Status(StatusCode.OK))
    span.set_status(StatusCode.ERROR, "too late")
    assert span.status.status_code is StatusCode.OK  # type: ignore[attr-defined]


def test_an_ended_span_does_not_change(
    tracer: trace.Tracer, memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is called after `end` is said in the log and otherwise ignored."""
    span = tracer.start_span("work")
    span.end(7)
    with caplog.at_level(logging.WARNING):
        span.set_attribute("a", 1)
        span.set_attributes({"a": 1})
        span.add_event("late")
        span.add_link(SpanContext(1, 2, False))
        span.update_name("other")
        span.set_status(StatusCode.ERROR)
        span.record_exception(ValueError("late"))
        span.end(8)
    assert len(caplog.records) == 8
    (kept,) = memory.spans
    assert (kept.name, dict(kept.attributes), kept.end_time) == ("work", {}, 7)
    assert (kept.events, kept.links, kept.status.status_code) == ((), (), StatusCode.UNSET)


@pytest.mark.parametrize("current", [True, False])
def test_an_exception_is_recorded_and_goes_on(tracer: trace.Tracer, memory: Memory, current: bool) -> None:
    """Both kinds of `with` note the exception, set the status, end the span, and let it pass."""
    with pytest.raises(LookupError), _block(tracer, current):
        raise LookupError("gone")
    (span,) = memory.spans
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "LookupError: gone")
    (event,) = span.events
    described = dict(event.attributes or {})
    assert (event.name, described["exception.type"], described["exception.message"]) == (
        "exception",
        "LookupError",
        "gone",
    )
    assert "raise LookupError" in str(described["exception.stacktrace"])
    assert not trace.get_current_span().get_span_context().is_valid


def _block(tracer: trace.Tracer, current: bool) -> trace.Span:
    return tracer.start_as_current_span("work") if current else tracer.start_span("work")  # type: ignore[return-value]


def test_what_is_no_error_is_not_recorded(tracer: trace.Tracer, memory: Memory) -> None:
    """A cancelled task, and a caller who asked not to record, leave the span as it is."""
    with pytest.raises(asyncio.CancelledError), tracer.start_as_current_span("cancelled"):
        raise asyncio.CancelledError
    quiet = {"record_exception": False, "set_status_on_exception": False}
    with pytest.raises(ValueError, match="x"), tracer.start_as_current_span("quiet", **quiet):
        raise ValueError("x")
    with pytest.raises(ValueError, match="x"), tracer.start_span("quiet", **quiet):
        raise ValueError("x")
    with tracer.start_as_current_span("open", end_on_exit=False) as span:
        pass
    assert span.is_recording()
    assert [(s.name, s.status.status_code, s.events) for s in memory.spans] == [
        ("cancelled", StatusCode.UNSET, ()),
        ("quiet", StatusCode.UNSET, ()),
        ("quiet", StatusCode.UNSET, ()),
    ]


async def test_functions_are_decorated_with_a_span_per_call(tracer: trace.Tracer, memory: Memory) -> None:
    """`start_as_current_span` decorates functions and coroutine functions; a span lasts as long as its call."""

    @tracer.start_as_current_span("plain")
    def plain(number: int) -> int:
        assert trace.get_current_span().is_recording()
        return number + 1

    @tracer.start_as_current_span("awaited")
    async def awaited(number: int) -> int:
        await asyncio.sleep(0)
        assert trace.get_current_span().is_recording()
        return number + 1

    assert inspect.iscoroutinefunction(awaited)
    assert [plain(1), plain(2), await awaited(1), await awaited(2)] == [2, 3, 2, 3]
    assert [span.name for span in memory.spans] == ["plain", "plain", "awaited", "awaited"]
    assert len({span.context.span_id for span in memory.spans}) == 4


def test_processors_of_the_sdk_may_be_added() -> None:
    """A processor sees every span at its start, may write to it, and gets it whole at its end."""
    provider = LeanTracerProvider(RESOURCE)
    tracer = provider.get_tracer("some.library")
    out = StringIO()
    stages: list[str] = []

    class Naming(SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # type: ignore[override]
            span.set_attribute("tenant", "acme")
            stages.append("start")

        def shutdown(self) -> None:
            stages.append("shutdown")

    provider.add_span_processor(Naming())
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=out)))
    with tracer.start_as_current_span("work", attributes={"tags": ["a", "b"]}) as span:
        span.add_event("seen")
    written = json.loads(out.getvalue())
    assert (written["name"], written["attributes"]) == ("work", {"tags": ["a", "b"], "tenant": "acme"})
    assert written["resource"]["attributes"]["service.name"] == "under-test"
    assert provider.force_flush(1_000) is True
    provider.shutdown()
    assert stages == ["start", "shutdown"]


@pytest.mark.parametrize(
    ("variables", "parent", "recorded"),
    [
        ({}, None, True),
        ({}, remote(flags=0), False),
        ({}, remote(flags=1), True),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, remote(flags=0), True),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, None, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, None, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, remote(flags=1), True),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, remote(flags=1), False),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"}, None, True),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, None, False),
    ],
)
def test_the_samplers_of_the_environment_decide(
    variables: dict[str, str],
    parent: Context | None,
    recorded: bool,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is not sampled is not recorded, passes its context on, and its children are not recorded either."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tracer = LeanTracerProvider(RESOURCE, memory).get_tracer("some.library")
    span = tracer.start_span("work", context=parent or Context())
    assert (span.is_recording(), span.get_span_context().trace_flags.sampled) == (recorded, recorded)
    assert span.get_span_context().is_valid
    span.end()
    assert len(memory.spans) == recorded


def test_a_sampler_of_the_applications_own_may_add_and_only_record(
    memory: Memory, provider: LeanTracerProvider
) -> None:
    """Attributes and tracestate of the sampler count; what is recorded but not sampled is not exported."""

    class Own(Sampler):
        def should_sample(self, *args: object, **kwargs: object) -> SamplingResult:
            state = trace.TraceState([("own", "1")])
            return SamplingResult(Decision.RECORD_ONLY, {"sampler": "own"}, state)

        def get_description(self) -> str:
            return "own"

    span = LeanTracerProvider(RESOURCE, memory, sampler=Own()).get_tracer("x").start_span("work")
    assert (span.is_recording(), dict(span.attributes)) == (True, {"sampler": "own"})  # type: ignore[attr-defined]
    assert span.get_span_context().trace_state.get("own") == "1"
    span.end()
    LeanTracerProvider(RESOURCE, memory, sampler=ALWAYS_OFF).get_tracer("x").start_span("work").end()
    assert memory.spans == []


def test_limits_of_the_environment_are_kept(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts and lengths are cut as asked for, and what was dropped is counted."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "1")
    span = LeanTracerProvider(RESOURCE, memory).get_tracer("x").start_span("work", attributes={"a": "12345"})
    span.set_attributes({"b": "12345", "c": "12345"})
    span.add_event("first")
    span.add_event("second", {"d": "12345"})
    span.end()
    (kept,) = memory.spans
    assert (dict(kept.attributes), kept.dropped_attributes) == ({"b": "123", "c": "123"}, 1)
    assert ([event.name for event in kept.events], kept.dropped_events) == (["second"], 1)


def test_what_the_caller_changes_later_does_not_change_the_span(tracer: trace.Tracer, memory: Memory) -> None:
    """Attributes are copied, sequences too; only `Ready` ones are taken as they are."""
    tags, described = ["a"], {"number": 1}
    span = tracer.start_span("work", attributes={**described, "tags": tags})
    tags.append("b")
    described["number"] = 2
    span.end()
    ready = Ready(number=1)
    tracer.start_span("ready", attributes=ready).end()
    assert [dict(kept.attributes) for kept in memory.spans] == [{"number": 1, "tags": ("a",)}, {"number": 1}]
    assert memory.spans[1]._attributes is ready


def test_spans_that_cross_a_border_carry_message_and_flow(tracer: trace.Tracer, memory: Memory) -> None:
    """Other instrumentations' spans are completed as an SDK provider's are by our processor."""
    context = with_incoming("0190f3a0-0000-7000-8000-000000000000", remote(flow=FLOW))
    for kind in SpanKind:
        tracer.start_span("work", context, kind).end()
    seen = {
        span.kind: (span.attributes.get(MESSAGE_ID), span.attributes.get(FLOW_ID)) for span in memory.spans
    }
    received = ("0190f3a0-0000-7000-8000-000000000000", FLOW)
    assert seen == {
        SpanKind.INTERNAL: (None, None),
        SpanKind.SERVER: received,
        SpanKind.CONSUMER: received,
        SpanKind.CLIENT: (None, FLOW),
        SpanKind.PRODUCER: (None, FLOW),
    }


def test_one_tracer_per_library(provider: LeanTracerProvider) -> None:
    """Asking twice for the same library gives the same tracer."""
    assert provider.get_tracer("a", "1") is provider.get_tracer("a", "1")
    assert provider.get_tracer("a", "1") is not provider.get_tracer("a", "2")
