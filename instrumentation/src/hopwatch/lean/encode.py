"""Spans to OTLP bytes: cached fragments, joined. It runs in the export thread only."""

from collections.abc import Sequence
from struct import Struct, pack
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, TraceState

from hopwatch.conventions import (
    KAFKA_OFFSET,
    MESSAGE_ID,
    MESSAGING_DESTINATION_PARTITION_ID,
    PUBLISH_OUTCOME,
)
from hopwatch.lean.sent import LeanSend
from hopwatch.lean.span import UNSET, LeanSpan
from hopwatch.lean.wire import attributes, key_value, number, sized, text, varints
from hopwatch.places import KafkaPosition, Prepared

if TYPE_CHECKING:
    from hopwatch.lean.provider import LeanTracer

_pack_times: Final = Struct("<BBBQBQ").pack
_FLAGS: Final = {False: pack("<HI", 0x0185, 0x100), True: pack("<HI", 0x0185, 0x300)}
_PRODUCER: Final = SpanKind.PRODUCER.value + 1
_NO_STATUS: Final = b"\x7a\x00"

_INT64_END: Final = 1 << 63
_TEXT: Final = b"\x0a"
_NUMBER: Final = b"\x18"
_VALUES: Final = 128
_KEYS: Final = 256
_CACHED_LENGTH: Final = 128
"""How many values per key, and keys, are kept as bytes, and how long they may be: 5 MB if all were used."""


class _Heads(dict[int, bytes]):
    """What stands before the bytes of a key's value, by how many these are."""

    __slots__ = ("_field", "_kind")

    def __init__(self, key: str, kind: bytes) -> None:
        self._field = sized(0x0A, key.encode())
        self._kind = kind

    def __missing__(self, size: int) -> bytes:
        kind = self._kind if self._kind == _NUMBER else self._kind + varints[size]
        value = len(kind) + size
        head = b"\x12%b%b" % (varints[value], kind)
        whole = len(self._field) + len(head) + size
        field = b"\x4a%b%b%b" % (varints[whole], self._field, head)
        if size <= _CACHED_LENGTH:
            self[size] = field
        return field


_ids_by_size: Final = _Heads(MESSAGE_ID, _TEXT)


class _Known(dict[Any, bytes]):
    """Values of one key as whole fields; full, it starts anew, so that it follows what is in use."""

    __slots__ = ("_key", "_texts")

    def __init__(self, key: str) -> None:
        self._key = key
        self._texts = _Heads(key, _TEXT)

    def __missing__(self, value: Any) -> bytes:
        field = self.field(value)
        if len(field) <= _CACHED_LENGTH:
            if len(self) >= _VALUES:
                self.clear()
            self[value] = field
        return field

    def field(self, value: Any) -> bytes:
        """Return the key with a value."""
        if type(value) is str:
            data = value.encode()
            return self._texts[len(data)] + data
        return key_value(0x4A, self._key, value)


class _Partitions(_Known):
    """Partitions, which are numbers of which the conventions make texts."""

    __slots__ = ()

    def field(self, value: Any) -> bytes:
        """Return the key with a partition."""
        return super().field(str(value))


class _Keys(dict[str, _Known]):
    """Keys of one type of value."""

    __slots__ = ()

    def __missing__(self, key: str) -> _Known:
        if len(self) >= _KEYS:
            self.clear()
        known = self[key] = _Known(key)
        return known


class _Numbers(dict[str, _Heads]):
    """What stands before the values of keys that have numbers: these hardly ever repeat, their lengths do."""

    __slots__ = ()

    def __missing__(self, key: str) -> _Heads:
        if len(self) >= _KEYS:
            self.clear()
        heads = self[key] = _Heads(key, _NUMBER)
        return heads


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
        self._numbers = _Numbers()
        self._switches = _Keys()  # apart, because True == 1
        self._offsets = self._numbers[KAFKA_OFFSET]
        self._names = _Names()
        self._outcomes = self._strings[PUBLISH_OUTCOME]
        self._partitions = _Partitions(MESSAGING_DESTINATION_PARTITION_ID)
        self._scopes: dict[InstrumentationScope, tuple[bytes, bytes]] = {}

    def encode(self, spans: Sequence[LeanSpan | LeanSend]) -> tuple[bytes, int]:
        """Return an `ExportTraceServiceRequest` and how many of the spans are in it: some have no place in OTLP."""
        groups: dict[LeanTracer, list[bytes]] = {}
        encoded = 0
        for span in spans:
            try:
                body = self._send(span) if type(span) is LeanSend else self._span(span)  # type: ignore[arg-type]
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
        parent, place = span._parent, span._place
        if place is None:
            name, shared = self._names[span._name], b""
        else:
            name, shared = place.encoded or self._place(place)
            if span._name is not place.span_name:
                name = self._names[span._name]
        parts = [
            b"\x0a\x10",
            span._trace_id.to_bytes(16, "big"),
            b"\x12\x08",
            span._span_id.to_bytes(8, "big"),
            _state(span._trace_state) if span._trace_state is not None else b"",
            b"" if parent is None else b"\x22\x08" + parent[1].to_bytes(8, "big"),
            name,
            _pack_times(0x30, span._kind._value_ + 1, 0x39, span._start_time, 0x41, span._end_time),
            shared,
        ]
        own: dict[str, Any] = span._own
        try:
            self._attributes(own, parts)
        except (
            ValueError,
            TypeError,
            RuntimeError,
        ):  # one has no place in OTLP, or the dict has grown meanwhile
            parts[9:] = [attributes(0x4A, list(own.items()))]
        if span._dropped_attributes:
            parts.append(number(0x50, span._dropped_attributes))
        if span._noted is not None:
            parts.append(_events(span))
        if span._linked is not None:
            parts.append(_links(span))
        status = span._status
        parts.append(_NO_STATUS if status is UNSET else _status(status))
        parts.append(_FLAGS[parent is not None and parent[2]])
        return b"".join(parts)

    def _send(self, send: LeanSend) -> bytes:
        """Encode what is alike in form for all sends: the span that it is, in fewer steps."""
        parent, place, position = send.parent, send.place, send.position
        name, shared = place.encoded or self._place(place)
        message_id = send.message_id.encode()
        parts = [
            b"\x0a\x10",
            send.trace_id.to_bytes(16, "big"),
            b"\x12\x08",
            send.span_id.to_bytes(8, "big"),
            b"" if parent is None else b"\x22\x08" + parent[1].to_bytes(8, "big"),
            name,
            _pack_times(0x30, _PRODUCER, 0x39, send.start_time, 0x41, send.end_time),
            shared,
            _ids_by_size[len(message_id)],
            message_id,
        ]
        own: dict[str, Any] = send.own
        if type(position) is KafkaPosition:
            offset = varints[position[1]]
            parts += (self._partitions[position[0]], self._offsets[len(offset)], offset)
        elif position is not None:
            own = {**own, **position.attributes()}
        if own:
            try:
                self._attributes(own, parts)
            except (ValueError, TypeError):  # one has no place in OTLP
                return self._span(send.span())
        parts.append(self._outcomes[send.outcome])
        parts.append(_NO_STATUS)
        parts.append(_FLAGS[parent is not None and parent[2]])
        return b"".join(parts)

    def _attributes(self, own: dict[str, Any], parts: list[bytes]) -> None:
        strings, numbers = self._strings, self._numbers
        for key, value in own.items():
            kind = type(value)
            if kind is str:
                if key is MESSAGE_ID:  # on every hop, and never the same
                    data = value.encode()
                    parts += (_ids_by_size[len(data)], data)
                else:
                    parts.append(strings[key][value])
            elif kind is int and 0 <= value < _INT64_END:
                data = varints[value]
                parts += (numbers[key][len(data)], data)
            elif kind is bool:
                parts.append(self._switches[key][value])
            else:
                parts.append(key_value(0x4A, key, value))

    def _place(self, place: Prepared) -> tuple[bytes, bytes]:
        """Encode what all hops to a destination share, once for all of them."""
        shared = attributes(0x4A, place.attributes.items())
        place.encoded = encoded = self._names[place.span_name], shared
        return encoded

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
