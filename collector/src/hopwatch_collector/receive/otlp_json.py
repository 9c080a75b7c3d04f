"""OTLP's JSON form to its protobuf form. OTLP spells ids in hex where protobuf's JSON has base64.

This is the slow way in (protobuf's JSON reader is Python): browsers and hand-written requests use it.
"""

import base64
import json
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hopwatch_collector.errors import MalformedRequest

_MAX_DEPTH = 64
_ID_FIELDS = ("traceId", "spanId", "parentSpanId")


def to_protobuf(body: bytes) -> bytes:
    """The protobuf form of a JSON request; unknown fields are left out, as OTLP asks.

    Raises:
        MalformedRequest: it is not JSON, or not an ExportTraceServiceRequest.
    """
    try:
        document = json.loads(body)
        for span in _spans(document):
            _ids_to_base64(span)
            for link in _items(span, "links"):
                _ids_to_base64(link)
        request = json_format.ParseDict(
            document, ExportTraceServiceRequest(), ignore_unknown_fields=True, max_recursion_depth=_MAX_DEPTH
        )
        return request.SerializeToString()
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedRequest(f"not an ExportTraceServiceRequest in JSON: {error}") from None


def _spans(document: Any) -> list[dict[str, Any]]:
    return [
        span
        for resource_spans in _items(document, "resourceSpans")
        for scope_spans in _items(resource_spans, "scopeSpans")
        for span in _items(scope_spans, "spans")
    ]


def _items(parent: Any, name: str) -> list[dict[str, Any]]:
    """The objects under `name`. Protobuf's reader would take text or a list for an object without fields."""
    if not isinstance(parent, dict):
        raise TypeError("an object was expected")
    found = parent.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise TypeError(f"{name} must be an array of objects")
    return found


def _ids_to_base64(item: dict[str, Any]) -> None:
    for name in _ID_FIELDS:
        value = item.get(name)
        if isinstance(value, str):
            item[name] = base64.b64encode(bytes.fromhex(value)).decode("ascii")
