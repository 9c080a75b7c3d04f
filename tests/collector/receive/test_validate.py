"""Validation: good requests pass untouched, offending spans are taken out and counted, nothing else gets in."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hopwatch_collector.errors import MalformedRequest
from hopwatch_collector.receive.validate import validate

ids = st.one_of(
    st.just(b""),
    st.just(bytes(8)),
    st.just(bytes(16)),
    st.binary(min_size=7, max_size=17),
    st.binary(max_size=200),
)
spans = st.tuples(
    st.one_of(st.binary(min_size=16, max_size=16), ids),
    st.one_of(st.binary(min_size=8, max_size=8), ids),
    st.one_of(st.just(b""), st.binary(min_size=8, max_size=8), ids),
)


def is_good(trace_id: bytes, span_id: bytes, parent_id: bytes) -> bool:
    return (
        len(trace_id) == 16
        and any(trace_id)
        and len(span_id) == 8
        and any(span_id)
        and len(parent_id) in (0, 8)
    )


@settings(deadline=None)
@given(scopes=st.lists(st.lists(spans, max_size=6), max_size=4))
def test_offending_spans_are_taken_out_and_the_rest_is_kept(scopes) -> None:
    """Exactly the spans with proper ids survive, wherever they stand; the others are counted."""
    request = ExportTraceServiceRequest()
    for number, scope in enumerate(scopes):
        added = request.resource_spans.add().scope_spans.add()
        for trace_id, span_id, parent_id in scope:
            added.spans.add(
                trace_id=trace_id,
                span_id=span_id,
                parent_span_id=parent_id,
                name=str(number),
                trace_state="a=b",
            )
    accepted = validate(request.SerializeToString())
    stored = ExportTraceServiceRequest.FromString(accepted.payload)
    kept = [
        (span.trace_id, span.span_id, span.parent_span_id)
        for resource in stored.resource_spans
        for scope_spans in resource.scope_spans
        for span in scope_spans.spans
    ]
    everything = [span for scope in scopes for span in scope]
    assert kept == [span for span in everything if is_good(*span)]
    assert accepted.spans == len(kept)
    assert accepted.rejected == len(everything) - len(kept)


def test_a_good_request_is_stored_byte_for_byte(otlp) -> None:
    """Nothing is re-encoded where nothing has to be removed."""
    body = otlp(["a", "b"], padding=10)
    accepted = validate(body)
    assert accepted.payload is body
    assert (accepted.spans, accepted.rejected) == (2, 0)


def test_unknown_fields_are_kept(otlp) -> None:
    """A field of a newer OTLP is no reason to refuse or re-encode."""
    body = otlp(["a"]) + b"\x9a\x06\x03new"
    assert validate(body).payload is body


def test_a_thousand_scopes_count_like_one(otlp) -> None:
    """Concatenated requests are one request: all spans of all resources are counted."""
    accepted = validate(b"".join(otlp(["a", "b"]) for _ in range(500)))
    assert accepted.spans == 1000


@pytest.mark.parametrize(
    "body",
    [
        b"\xff" * 20,
        b"\x0a\x7f",
        b"\x0a\x04\x12\x02\x12\x7f",
        b"hello",
        b"\x0b",  # a group that never ends
        b"\x0a\x09\x12\x07\x12\x05\x2a\x03\xff\xfe\xfd",  # a span name that is not UTF-8
    ],
)
def test_bytes_that_are_no_request_are_malformed(body: bytes) -> None:
    """What does not parse against the real schema is refused."""
    with pytest.raises(MalformedRequest):
        validate(body)


@settings(deadline=None)
@given(body=st.binary(max_size=300))
def test_rubbish_never_raises_anything_else(body: bytes) -> None:
    """Any bytes are either a request or malformed; what is accepted parses again."""
    try:
        accepted = validate(body)
    except MalformedRequest:
        return
    ExportTraceServiceRequest.FromString(accepted.payload)


@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_request_is_malformed_or_still_a_request(data) -> None:
    """Truncations and changed bytes of a real request never pass for something that does not parse."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    scope.spans.add(trace_id=os.urandom(16), span_id=os.urandom(8), name="a")
    body = bytearray(request.SerializeToString())
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))])
    try:
        accepted = validate(cut)
    except MalformedRequest:
        return
    assert accepted.spans <= 1
    ExportTraceServiceRequest.FromString(accepted.payload)
