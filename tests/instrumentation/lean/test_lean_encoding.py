"""What the lean pipeline sends is what the SDK's would have sent: the same span, built and encoded by both."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from hopwatch.conventions import KAFKA_OFFSET, MESSAGE_ID, SEQUENCE
from hopwatch.lean import encode, fields
from hopwatch.lean.encode import Encoder, encoded
from hopwatch.lean.provider import LeanTracerProvider
from hopwatch.lean.span import LeanSpan


class Colour(StrEnum):
    """A string that is more."""

    RED = "red"


class Level(IntEnum):
    """A number that is more."""

    HIGH = 3


RESOURCE = Resource({"service.name": "orders", "tags": ["a", "b"], "ratio": 0.5}, schema_url="https://r/1")

names = st.text(max_size=12)
texts = st.text(st.characters(exclude_categories=()), max_size=12)  # lone surrogates too
integers = st.integers(-(1 << 70), 1 << 70)
plain = st.one_of(st.none(), st.booleans(), integers, st.floats(), texts, st.binary(max_size=8))
values = st.one_of(
    plain,
    st.sampled_from([Colour.RED, Level.HIGH, object, 1j, "x" * 5000, "é" * 70, "y" * 127, 0, 1, True, 1.0]),
    st.recursive(
        plain,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(texts, inner, max_size=3)
        ),
        max_leaves=5,
    ),
)
keys = st.one_of(
    texts,
    st.sampled_from(["a", "b", "http.status_code", "k" * 118, "k" * 200]),
    st.sampled_from([7, None, b"k"]),
    st.sampled_from([MESSAGE_ID, KAFKA_OFFSET, SEQUENCE]),  # encoded by ways of their own
)
attributes = st.one_of(st.none(), st.dictionaries(keys, values, max_size=6))
states = st.sampled_from([None, TraceState([("hw", "0" * 32), ("other", "x=y")])])
contexts = st.builds(
    SpanContext,
    st.integers(0, (1 << 128) - 1),
    st.integers(0, (1 << 64) - 1),
    st.booleans(),
    st.sampled_from([TraceFlags(1), TraceFlags(3)]),
    states,
)
times = st.integers(0, (1 << 64) - 1)
few = st.sampled_from([SpanLimits.UNSET, 0, 1, 2, 128])
limits = st.builds(
    SpanLimits,
    max_attributes=few,
    max_events=few,
    max_links=few,
    max_span_attributes=few,
    max_event_attributes=few,
    max_link_attributes=few,
    max_attribute_length=few,
    max_span_attribute_length=few,
)
statuses = st.one_of(
    st.tuples(st.sampled_from(StatusCode), st.one_of(st.none(), names)),
    st.tuples(st.builds(Status, st.sampled_from(StatusCode), st.one_of(st.none(), names)), st.none()),
)
changes: st.SearchStrategy[Callable[[Span], object]] = st.one_of(
    st.tuples(keys, values).map(lambda said: lambda span: span.set_attribute(*said)),
    attributes.map(lambda said: lambda span: span.set_attributes(said or {})),
    st.tuples(names, attributes, times).map(lambda said: lambda span: span.add_event(*said)),
    st.tuples(contexts, attributes).map(lambda said: lambda span: span.add_link(*said)),
    names.map(lambda name: lambda span: span.update_name(name)),
    statuses.map(lambda said: lambda span: span.set_status(*said)),
)


@dataclass
class Ids(RandomIdGenerator):
    """Gives the SDK the ids that the lean provider has drawn."""

    trace_id: int = 1
    span_id: int = field(default=1)

    def generate_trace_id(self) -> int:
        """The next root's."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """The next span's."""
        return self.span_id


class Outlet:
    """Keeps lean spans."""

    def __init__(self) -> None:
        self.spans: list[LeanSpan] = []
        self.put = self.spans.append


def decoded(body: bytes) -> bytes:
    """Return a request in the order and form the SDK would write it."""
    return ExportTraceServiceRequest.FromString(body).SerializeToString(deterministic=True)


def request(spans: list[LeanSpan], encoded: Callable[[LeanSpan], bytes] = encoded) -> bytes:
    """Return what the lean exporter would send."""
    return Encoder(RESOURCE).encode([span._tracer for span in spans], [encoded(span) for span in spans])


def expected(*spans: ReadableSpan) -> bytes:
    """Return what the SDK's exporter would send, and what OTLP has it say of the trace besides: its flags."""
    flags = {span.context.span_id: span.context.trace_flags for span in spans if span.context}
    wanted = encode_spans(spans)
    for resource in wanted.resource_spans:
        for one in (span for scope in resource.scope_spans for span in scope.spans):
            one.flags |= flags[int.from_bytes(one.span_id)]
    return wanted.SerializeToString(deterministic=True)


@settings(max_examples=300, deadline=None)
@given(
    data=st.data(), limits=limits, parent=st.one_of(st.none(), contexts), made=st.lists(changes, max_size=6)
)
def test_every_span_is_encoded_as_the_sdk_would(
    data: st.DataObject, limits: SpanLimits, parent: SpanContext | None, made: list[Callable[[Span], object]]
) -> None:
    """Attributes of every type, events, links, status, tracestate, flags and dropped counts all agree."""
    outlet, memory, ids = Outlet(), InMemorySpanExporter(), Ids()
    lean = LeanTracerProvider(RESOURCE, outlet, limits=limits)
    sdk = TracerProvider(resource=RESOURCE, id_generator=ids, span_limits=limits, shutdown_on_exit=False)
    sdk.add_span_processor(SimpleSpanProcessor(memory))
    links = data.draw(st.lists(st.tuples(contexts, attributes), max_size=3))
    start: dict[str, Any] = {
        "name": data.draw(names),
        "kind": data.draw(st.sampled_from(SpanKind)),
        "attributes": data.draw(attributes),
        "start_time": data.draw(times),
        "context": None if parent is None else trace.set_span_in_context(NonRecordingSpan(parent)),
    }
    end_time = data.draw(times)
    scope = (
        "hopwatch.test",
        data.draw(st.sampled_from([None, "1.2"])),
        data.draw(st.sampled_from([None, "https://s"])),
    )
    ours = lean.get_tracer(*scope, attributes={"scope": "attribute"}).start_span(
        **start, links=[Link(*link) for link in links]
    )
    own = ours.get_span_context()
    ids.trace_id, ids.span_id = own.trace_id, own.span_id
    theirs = sdk.get_tracer(*scope, attributes={"scope": "attribute"}).start_span(
        **start, links=[Link(*link) for link in links]
    )
    for span in (ours, theirs):
        for change in made:
            change(span)
        span.end(end_time)
    wanted = expected(*memory.get_finished_spans())
    assert decoded(request(outlet.spans)) == wanted
    with patch.object(encode, "span_field", fields._span):  # the twins in Python, where C does the work
        assert decoded(request(outlet.spans, encode._encoded)) == wanted
    # what an added processor of the SDK reads of our span is the same again
    assert expected(outlet.spans[0]) == wanted


def test_spans_are_grouped_by_scope_in_the_order_they_came() -> None:
    """Scopes follow each other by their first span; kinds and parents are the SDK's; every cache is hit twice."""
    outlet = Outlet()
    provider = LeanTracerProvider(RESOURCE, outlet)
    for _ in range(2):
        for scope in ("hopwatch.b", "hopwatch.a"):
            for kind in SpanKind:
                attributes = {"text": "x", "flag": True, "number": 1, "other": 1.0}
                provider.get_tracer(scope).start_span("name", kind=kind, attributes=attributes).end()
    assert len(outlet.spans) == 20
    assert decoded(request(outlet.spans)) == expected(*outlet.spans)


def test_more_values_than_are_kept_are_encoded_all_the_same() -> None:
    """The caches of values, keys and names are bounded and start anew."""
    outlet = Outlet()
    tracer = LeanTracerProvider(RESOURCE, outlet).get_tracer("hopwatch.test")
    for number in range(1000):
        described = {"same": str(number), f"key{number}": number, "long": str(number) * 100}
        tracer.start_span(f"name {number}", attributes=described).end()
    for _ in range(2):
        assert decoded(request(outlet.spans)) == expected(*outlet.spans)


def test_what_has_no_place_in_otlp_is_refused() -> None:
    """Such as a time before 1970; a name that is no text is mended."""
    outlet = Outlet()
    tracer = LeanTracerProvider(RESOURCE, outlet).get_tracer("hopwatch.test")
    tracer.start_span("too early", start_time=-1).end()
    tracer.start_span("half a \ud800 character").end()
    early, mended = outlet.spans
    with pytest.raises((OverflowError, struct.error)):
        encoded(early)
    [scope] = ExportTraceServiceRequest.FromString(request([mended])).resource_spans[0].scope_spans
    assert [span.name for span in scope.spans] == ["half a ? character"]
    assert Encoder(RESOURCE).encode([], []) == b""
