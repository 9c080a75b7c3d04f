"""Validation: good requests pass untouched, offending spans are taken out and counted, nothing else gets in."""

import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hopwatch_collector.errors import MalformedRequest, RequestTooLarge
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
    ],
)
def test_bytes_that_are_no_request_are_malformed(body: bytes) -> None:
    """What does not parse against the real schema is refused."""
    with pytest.raises(MalformedRequest):
        validate(body)


def test_a_text_that_is_not_utf_8_costs_no_span(otlp) -> None:
    """Names, keys, values and resources in another encoding are mended with U+FFFD; what is beside them stays as it was."""
    body = otlp(["good", "NAME", "also good"])
    request = ExportTraceServiceRequest.FromString(body)
    request.resource_spans[0].resource.attributes.add(key="RESOURCE").value.string_value = "VALUE"
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="raw").value.bytes_value = b"\xff\xfe"
    span.attributes.add(key="list").value.array_value.values.add(string_value="INNER")
    body = request.SerializeToString()
    for text in (b"NAME", b"RESOURCE", b"VALUE", b"INNER"):
        body = body.replace(text, b"\xff" + text[1:])
    accepted = validate(body)
    assert (accepted.spans, accepted.rejected) == (3, 0)
    mended = ExportTraceServiceRequest.FromString(accepted.payload)
    spans = mended.resource_spans[0].scope_spans[0].spans
    assert [one.name for one in spans] == ["good", "\ufffdAME", "also good"]
    assert mended.resource_spans[0].resource.attributes[-1].key == "\ufffdESOURCE"
    assert mended.resource_spans[0].resource.attributes[-1].value.string_value == "\ufffdALUE"
    raw, listed = spans[0].attributes[-2:]
    assert raw.value.bytes_value == b"\xff\xfe"
    assert listed.value.array_value.values[0].string_value == "\ufffdNNER"


def tagged(tag: int, content: bytes) -> bytes:
    """A field that has a length."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([tag]) + length + bytes([size]) + content


def in_spans(spans: bytes) -> bytes:
    return tagged(0x0A, tagged(0x12, spans))


SPAN = tagged(0x0A, b"1" * 16) + tagged(0x12, b"2" * 8)
EMPTY = 500_000


@pytest.mark.parametrize(
    "body",
    [
        in_spans(b"\x12\x00" * EMPTY),
        b"\x0a\x00" * EMPTY,
        tagged(0x0A, b"\x12\x00" * EMPTY),
        in_spans(tagged(0x12, SPAN + b"\x4a\x00" * EMPTY)),
        in_spans(tagged(0x12, SPAN + b"\x5a\x00" * EMPTY)),
        in_spans(tagged(0x12, SPAN + b"\x6a\x02\x0a\x00" * EMPTY)),
        in_spans(tagged(0x12, SPAN + tagged(0x4A, tagged(0x12, tagged(0x2A, b"\x0a\x00" * EMPTY))))),
    ],
    ids=["spans", "resources", "scopes", "attributes", "events", "links", "values"],
)
def test_empty_messages_are_refused_before_they_are_parsed(body: bytes) -> None:
    """Two bytes on the wire are a hundred in memory: a request made of such is refused by a look at its bytes, wherever they are."""
    began = time.process_time()
    with pytest.raises(RequestTooLarge, match="made of empty messages"):
        validate(body)
    assert time.process_time() - began < 0.5


def test_more_spans_than_one_request_may_have() -> None:
    """A hundred thousand spans are taken, one more is not."""
    span = tagged(0x12, SPAN)
    assert validate(in_spans(span * 100_000)).spans == 100_000
    with pytest.raises(RequestTooLarge, match="100001 spans, more than 100000"):
        validate(in_spans(span * 100_001))


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
