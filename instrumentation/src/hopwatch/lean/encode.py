"""Spans to OTLP bytes: cached fragments, joined. It runs in the export thread only."""

from collections.abc import Sequence
from struct import Struct, pack
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, TraceState
from opentelemetry.util.types import AnyValue

from hopwatch.lean.span import UNSET, LeanSpan
from hopwatch.lean.wire import attributes, key_value, number, sized, text, varints

if TYPE_CHECKING:
    from hopwatch.lean.provider import LeanTracer

_pack_times: Final = Struct("<BBBQBQ").pack
_FLAGS: Final = {False: pack("<HI", 0x0185, 0x100), True: pack("<HI", 0x0185, 0x300)}
_NO_STATUS: Final = b"\x7a\x00"

_SHORT: Final = 1 << 14
_VALUES: Final = 128
_KEYS: Final = 256
_CACHED_LENGTH: Final = 128
"""How many values per key, and keys, are kept as bytes, and how long they may be: 5 MB if all were used."""


class _Known(dict[Any, bytes]):
    """Values of one key as whole fields; full, it starts anew, so that it follows what is in use."""

    __slots__ = ("_head", "_key", "_room", "_size")

    def __init__(self, key: str) -> None:
        self._key = key
        field = sized(0x0A, key.encode())
        self._head = field + b"\x12"
        self._size = len(self._head) + 1
        self._room = 127 - self._size - 2  # for what is short enough that each length takes one byte

    def __missing__(self, value: AnyValue) -> bytes:
        if type(value) is str and (size := len(data := value.encode())) <= self._room:
            field = b"\x4a%c%b%c\x0a%c%b" % (self._size + size + 2, self._head, size + 2, size, data)
        elif type(value) is int and 0 <= value < _SHORT and self._room > 3:
            data = varints[value]
            size = len(data) + 1
            field = b"\x4a%c%b%c\x18%b" % (self._size + size, self._head, size, data)
        else:
            field = key_value(0x4A, self._key, value)
        if len(field) <= _CACHED_LENGTH:
            if len(self) >= _VALUES:
                self.clear()
            self[value] = field
        return field


class _Keys(dict[str, _Known]):
    """Keys of one type of value."""

    __slots__ = ()

    def __missing__(self, key: str) -> _Known:
        if len(self) >= _KEYS:
            self.clear()
        known = self[key] = _Known(key)
        return known


class _Names(dict[str, bytes]):
    """Span names as whole fields."""

    __slots__ = ()

    def __missing__(self, name: str) -> bytes:
        field = sized(0x2A, name.encode(errors="replace"))
        if len(self) >= _KEYS:
            self.clear()
        self[name] = field
        return field


class Encoder:
    """Encodes the spans of one resource."""

    def __init__(self, resource: Resource) -> None:
        self._resource = sized(0x0A, attributes(0x0A, resource.attributes.items()))
        self._resource_schema = text(0x1A, resource.schema_url)
        self._strings = _Keys()
        self._tables = {str: self._strings, int: _Keys(), bool: _Keys()}  # apart, because True == 1
        self._names = _Names()
        self._scopes: dict[InstrumentationScope, tuple[bytes, bytes]] = {}

    def encode(self, spans: Sequence[LeanSpan]) -> tuple[bytes, int]:
        """Return an `ExportTraceServiceRequest` and how many of the spans are in it: some have no place in OTLP."""
        groups: dict[LeanTracer, list[bytes]] = {}
        encoded = 0
        for span in spans:
            try:
                body = self._span(span)
            except Exception:  # noqa: BLE001 — times before 1970 and the like: counted by the caller
                continue
            encoded += 1
            group = groups.get(span._tracer)
            if group is None:
                group = groups[span._tracer] = []
            group += (b"\x12", varints[len(body)], body)
        parts = [self._resource]
        for tracer, group in groups.items():
            head, schema = self._scope(tracer.scope)
            parts.append(sized(0x12, b"".join((head, *group, schema))))
        parts.append(self._resource_schema)
        return sized(0x0A, b"".join(parts)) if encoded else b"", encoded

    def _span(self, span: LeanSpan) -> bytes:
        parent = span._parent
        parts = [
            b"\x0a\x10",
            span._trace_id.to_bytes(16, "big"),
            b"\x12\x08",
            span._span_id.to_bytes(8, "big"),
            _state(span._trace_state) if span._trace_state is not None else b"",
            b"" if parent is None else b"\x22\x08" + parent.span_id.to_bytes(8, "big"),
            self._names[span._name],
            _pack_times(0x30, span._kind._value_ + 1, 0x39, span._start_time, 0x41, span._end_time),
        ]
        try:
            tables, strings = self._tables, self._strings
            for key, value in span._attributes.items():
                kind = type(value)
                if kind is str:
                    parts.append(strings[key][value])
                elif kind in tables:
                    parts.append(tables[kind][key][value])
                else:
                    parts.append(key_value(0x4A, key, value))
        except (
            ValueError,
            TypeError,
            RuntimeError,
        ):  # one has no place in OTLP, or the dict has grown meanwhile
            parts[8:] = [attributes(0x4A, list(span._attributes.items()))]
        if span._dropped_attributes:
            parts.append(number(0x50, span._dropped_attributes))
        if span._noted is not None:
            parts.append(_events(span))
        if span._linked is not None:
            parts.append(_links(span))
        status = span._status
        parts.append(_NO_STATUS if status is UNSET else _status(status))
        parts.append(_FLAGS[parent is not None and parent.is_remote])
        return b"".join(parts)

    def _scope(self, scope: InstrumentationScope) -> tuple[bytes, bytes]:
        known = self._scopes.get(scope)
        if known is None:
            described = attributes(0x1A, (scope.attributes or {}).items())
            head = sized(0x0A, text(0x0A, scope.name) + text(0x12, scope.version) + described)
            known = self._scopes[scope] = head, text(0x1A, scope.schema_url)
        return known


def _state(state: TraceState) -> bytes:
    return text(0x1A, ",".join(f"{key}={value}" for key, value in state.items()))


def _events(span: LeanSpan) -> bytes:
    events = [
        sized(
            0x5A,
            pack("<BQ", 0x09, event.timestamp)
            + text(0x12, event.name)
            + attributes(0x1A, event.attributes.items())
            + number(0x20, event.dropped),
        )
        for event in span._noted or ()
    ]
    return b"".join(events) + number(0x60, span._dropped_events)


def _links(span: LeanSpan) -> bytes:
    links = [
        sized(
            0x6A,
            _ids(link.context)
            + attributes(0x22, link.attributes.items())
            + number(0x28, link.dropped)
            + pack("<BI", 0x35, 0x300 if link.context.is_remote else 0x100),
        )
        for link in span._linked or ()
    ]
    return b"".join(links) + number(0x70, span._dropped_links)


def _ids(context: SpanContext) -> bytes:
    return b"\x0a\x10%b\x12\x08%b" % (
        context.trace_id.to_bytes(16, "big"),
        context.span_id.to_bytes(8, "big"),
    )


def _status(status: Status) -> bytes:
    return sized(0x7A, text(0x12, status.description) + number(0x18, status.status_code.value))
