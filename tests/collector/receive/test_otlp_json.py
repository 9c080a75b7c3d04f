"""OTLP's JSON: the spec's own example and its peculiarities, and rubbish of every kind."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hopwatch_collector.errors import MalformedRequest, RequestTooLarge
from hopwatch_collector.receive.otlp_json import to_protobuf
from hopwatch_collector.receive.validate import validate

TRACE = "5B8EFFF798038103D269B633813FC60C"
SPAN = "EEE19B7EC3C1B174"
PARENT = "EEE19B7EC3C1B173"


def document(**span: object) -> dict[str, object]:
    """The example of opentelemetry-proto (examples/trace.json), shortened, with fields of the span replaced."""
    example: dict[str, object] = {
        "traceId": TRACE,
        "spanId": SPAN,
        "parentSpanId": PARENT,
        "flags": 257,
        "name": "I'm a server span",
        "startTimeUnixNano": "1544712660000000000",
        "endTimeUnixNano": 1544712661000000000,
        "kind": 2,
        "attributes": [{"key": "my.span.attr", "value": {"stringValue": "some value"}}],
        "links": [{"traceId": TRACE, "spanId": PARENT}],
        "status": {"code": 2},
    }
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
                "scopeSpans": [{"scope": {"name": "my.library"}, "spans": [{**example, **span}]}],
            }
        ]
    }


def parsed(body: object):
    request = ExportTraceServiceRequest.FromString(to_protobuf(json.dumps(body).encode()))
    return request.resource_spans[0].scope_spans[0].spans[0]


def test_ids_are_hex_and_numbers_may_be_strings() -> None:
    """Ids in hex of either case, 64-bit numbers as string or number, enums as numbers."""
    span = parsed(document())
    assert span.trace_id.hex() == TRACE.lower()
    assert span.parent_span_id.hex() == PARENT.lower()
    assert span.links[0].span_id.hex() == PARENT.lower()
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1544712660000000000, 1544712661000000000)
    assert (span.kind, span.status.code, span.flags) == (2, 2, 257)


def test_attribute_values_of_every_kind_arrive() -> None:
    """Int64 as string, double, bool, bytes in base64, array and map."""
    values = [
        {"intValue": "9007199254740993"},
        {"doubleValue": 1.5},
        {"boolValue": False},
        {"bytesValue": base64.b64encode(b"\x00\xff").decode()},
        {"arrayValue": {"values": [{"stringValue": "a"}]}},
        {"kvlistValue": {"values": [{"key": "k", "value": {"intValue": 1}}]}},
    ]
    span = parsed(document(attributes=[{"key": str(n), "value": value} for n, value in enumerate(values)]))
    found = [attribute.value for attribute in span.attributes]
    assert found[0].int_value == 9007199254740993
    assert found[1].double_value == 1.5
    assert found[2].WhichOneof("value") == "bool_value"
    assert found[3].bytes_value == b"\x00\xff"
    assert found[4].array_value.values[0].string_value == "a"
    assert found[5].kvlist_value.values[0].value.int_value == 1


def test_unknown_fields_are_ignored() -> None:
    """Fields and enum numbers of a newer OTLP do no harm."""
    body = document(somethingNew={"deep": [1, 2]}, kind=77)
    body["alsoNew"] = True
    assert parsed(body).kind == 77


@pytest.mark.parametrize("field", ["traceId", "spanId", "parentSpanId"])
def test_an_id_of_the_wrong_length_rejects_its_span_only(field: str) -> None:
    """Hex of a wrong length is a bad id, counted like one in protobuf."""
    accepted = validate(to_protobuf(json.dumps(document(**{field: "abcd"})).encode()))
    assert (accepted.spans, accepted.rejected) == (0, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b'"text"',
        b"\xff\xfe",
        b'{"resourceSpans": 3}',
        b'{"resourceSpans": [3]}',
        b'{"resourceSpans": {"a": 1}}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": ["x"]}]}]}',
        json.dumps(document(traceId="not hex")).encode(),
        json.dumps(document(spanId=7)).encode(),
        json.dumps(document(startTimeUnixNano="soon")).encode(),
        json.dumps(document(startTimeUnixNano=-1)).encode(),
        json.dumps(document(name=["a"])).encode(),
        json.dumps(document(flags=float("inf"))).encode(),
        json.dumps(document(flags=float("nan"))).encode(),
        json.dumps(document(flags=0.5)).encode(),
        json.dumps(document(kind="\ud800x", flags="")).encode(),
        json.dumps(document()).replace("257", "1e400").encode(),
        json.dumps(document()).replace('"some value"}', '"a", "doubleValue": 1e400}').encode(),
        b'{"a":' * 600,
        b"[" * 4000,
    ],
)
def test_what_is_no_request_is_malformed(body: bytes) -> None:
    """Not JSON, JSON of another shape, values out of range, nesting without end."""
    with pytest.raises(MalformedRequest):
        to_protobuf(body)


@pytest.mark.parametrize(
    "body", [b'{"a":' * 100_000, b"[" * 100_000, b'{"resourceSpans":[' + b"{}," * 350_000 + b"{}]}"]
)
def test_empty_objects_are_refused_before_they_are_read(body: bytes) -> None:
    """A megabyte of brackets costs a look at its bytes: it is refused as too large, in words."""
    with pytest.raises(RequestTooLarge, match="made of empty objects"):
        to_protobuf(body)


@pytest.mark.parametrize("text", ["\\ud800", "\\uDFFF tail", "\\udc00\\ud800"])
def test_a_text_in_no_encoding_is_replaced(text: str) -> None:
    """A lone surrogate, in a key or a value, becomes U+FFFD; pairs stay what they mean, and no span is lost."""
    body = (
        json.dumps(document(name="NAME", links=[]))
        .replace("NAME", text + " \\ud83d\\ude00")
        .replace("my.span.attr", text)
    )
    request = ExportTraceServiceRequest.FromString(to_protobuf(body.encode()))
    (span,) = request.resource_spans[0].scope_spans[0].spans
    assert "\ufffd" in span.name
    assert span.name.endswith("\U0001f600")
    assert "\ufffd" in span.attributes[0].key


def test_bytes_that_are_not_utf_8_are_replaced() -> None:
    """JSON is UTF-8; what is not becomes U+FFFD, and no span is lost."""
    body = json.dumps(document(name="NAME")).encode().replace(b"NAME", b"a\xff\xfeb")
    request = ExportTraceServiceRequest.FromString(to_protobuf(body))
    assert request.resource_spans[0].scope_spans[0].spans[0].name == "a\ufffd\ufffdb"


def test_names_may_be_spelled_as_in_protobuf() -> None:
    """`trace_id` is read as `traceId` is, in hex; protobuf's own reader takes both names too."""
    given = {"trace_id": TRACE, "span_id": SPAN, "parent_span_id": PARENT, "name": "snake"}
    body = {"resource_spans": [{"scope_spans": [{"spans": [given]}]}]}
    span = parsed(body)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE.lower(), PARENT.lower())


def test_an_id_in_base64_is_told_from_other_mistakes() -> None:
    """Protobuf's JSON has ids in base64: the refusal says which field it is and what it looks like."""
    body = json.dumps(document(traceId=base64.b64encode(bytes.fromhex(TRACE)).decode())).encode()
    with pytest.raises(MalformedRequest, match=r"traceId is written in hex, 32 digits.*looks like base64"):
        to_protobuf(body)
    with pytest.raises(MalformedRequest, match=r"spanId is written in hex, 16 digits, not 'not hex'$"):
        to_protobuf(json.dumps(document(spanId="not hex")).encode())


def test_deeply_nested_attributes_are_malformed_not_fatal() -> None:
    """An attribute nested a thousand levels is refused without exhausting the stack."""
    value: dict[str, object] = {"stringValue": "x"}
    for _ in range(300):
        value = {"arrayValue": {"values": [value]}}
    with pytest.raises(MalformedRequest):
        to_protobuf(json.dumps(document(attributes=[{"key": "k", "value": value}])).encode())


_keys = st.sampled_from(
    [
        "resourceSpans",
        "scopeSpans",
        "spans",
        "traceId",
        "links",
        "attributes",
        "value",
        "key",
        "events",
        "status",
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=15,
)


@settings(deadline=None)
@given(value=json_values)
def test_any_json_is_a_request_or_malformed(value: object) -> None:
    """JSON of any shape ends in one of the two, and what passes is valid protobuf."""
    try:
        encoded = to_protobuf(json.dumps(value).encode())
    except MalformedRequest:
        return
    ExportTraceServiceRequest.FromString(encoded)
