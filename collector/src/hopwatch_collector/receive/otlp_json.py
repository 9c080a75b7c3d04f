"""OTLP's JSON form to its protobuf form. OTLP spells ids in hex where protobuf's JSON has base64.

This is the slow way in (protobuf's JSON reader is Python): browsers and hand-written requests use it.
"""

import base64
import json
from contextlib import suppress
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hopwatch_collector.errors import MalformedRequest, RequestTooLarge

_MAX_DEPTH = 64
_ID_FIELDS = {
    "traceId": 16,
    "trace_id": 16,
    "spanId": 8,
    "span_id": 8,
    "parentSpanId": 8,
    "parent_span_id": 8,
}
"""By name, OTLP's or protobuf's: how many bytes the id has."""
_SMALL = 4096
_AT_LEAST = 8
"""Bytes that a real request has for each object or array in it; that of the specification's example has 20."""


def to_protobuf(body: bytes) -> bytes:
    """The protobuf form of a JSON request; unknown fields are left out, as OTLP asks.

    Raises:
        MalformedRequest: it is not JSON, or not an ExportTraceServiceRequest. RequestTooLarge: it is made of empty objects.
    """
    objects = body.count(b"{") + body.count(b"[")
    if len(body) > _SMALL and objects * _AT_LEAST > len(body):
        raise RequestTooLarge(f"the request is made of empty objects, {objects} of them in {len(body)} bytes")
    try:
        document = _read(body)
        for span in _spans(document):
            _ids_to_base64(span)
            for link in _items(span, "links"):
                _ids_to_base64(link)
        request = json_format.ParseDict(
            document, ExportTraceServiceRequest(), ignore_unknown_fields=True, max_recursion_depth=_MAX_DEPTH
        )
        return request.SerializeToString()
    except (
        json_format.ParseError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise MalformedRequest(f"not an ExportTraceServiceRequest in JSON: {error}") from None


def _read(body: bytes) -> Any:
    """The document, with U+FFFD for what is in no encoding: a single text must not cost a request its other spans."""
    document = json.loads(body.decode("utf-8-sig", "replace"), parse_constant=_refuse)
    return _without_surrogates(document) if b"\\ud" in body.lower() else document


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _spans(document: Any) -> list[dict[str, Any]]:
    return [
        span
        for resource_spans in _items(document, "resourceSpans", "resource_spans")
        for scope_spans in _items(resource_spans, "scopeSpans", "scope_spans")
        for span in _items(scope_spans, "spans")
    ]


def _items(parent: Any, *names: str) -> list[dict[str, Any]]:
    """The objects under a name. Protobuf's reader would take text or a list for an object without fields."""
    if not isinstance(parent, dict):
        raise TypeError("an object was expected")
    items: list[dict[str, Any]] = []
    for name in names:
        found = parent.get(name)
        if found is None:
            continue
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise TypeError(f"{name} must be an array of objects")
        items += found
    return items


def _ids_to_base64(item: dict[str, Any]) -> None:
    for name, size in _ID_FIELDS.items():
        value = item.get(name)
        if isinstance(value, str):
            item[name] = base64.b64encode(_id(name, value, size)).decode("ascii")


def _id(name: str, value: str, size: int) -> bytes:
    """Ids of another length are left to whoever counts spans that have no proper ids. Raises ValueError."""
    try:
        return bytes.fromhex(value)
    except ValueError:
        hint = ""
        with suppress(ValueError):
            if len(base64.b64decode(value, validate=True)) == size:
                hint = ": it looks like base64, which protobuf's JSON has for bytes and OTLP's has not"
        raise ValueError(f"{name} is written in hex, {2 * size} digits, not {value[:64]!r}{hint}") from None
