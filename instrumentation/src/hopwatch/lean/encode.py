"""Spans to OTLP bytes: each by itself as it ends, many of them as a request."""

from collections.abc import Callable, Sequence
from struct import pack
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, TraceState

from hopwatch.lean.fields import names, span_field
from hopwatch.lean.sent import LeanSend
from hopwatch.lean.span import UNSET, LeanSpan
from hopwatch.lean.wire import attributes, number, sized, text, varints
from hopwatch.native import native
from hopwatch.places import Prepared

if TYPE_CHECKING:
    from hopwatch.lean.provider import LeanTracer

_PRODUCER: Final = SpanKind.PRODUCER.value + 1
_NO_STATUS: Final = b"\x7a\x00"
_TAILS: Final = tuple(
    _NO_STATUS + pack("<HI", 0x0185, remote | flags) for remote in (0x100, 0x300) for flags in range(4)
)
"""Status and flags of a span nothing is wrong with: by whether its parent is remote, and by its trace's flags."""


class Encoder:
    """Encodes the spans of one resource."""

    def __init__(self, resource: Resource) -> None:
        self._resource = sized(0x0A, attributes(0x0A, resource.attributes.items()))
        self._resource_schema = text(0x1A, resource.schema_url)
        self._scopes: dict[InstrumentationScope, tuple[bytes, bytes]] = {}

    def encode(self, tracers: Sequence["LeanTracer"], fields: Sequence[bytes]) -> bytes:
        """Return an `ExportTraceServiceRequest` of spans, empty where there are none.

        They are given as who recorded each, and as the field that each is in its scope.
        """
        if not fields:
            return b""
        parts = [b"", self._resource]
        scopes = dict.fromkeys(tracers)
        for tracer in scopes:
            group = (
                fields
                if len(scopes) == 1
                else [field for one, field in zip(tracers, fields, strict=True) if one is tracer]
            )
            head, schema = self._scope(tracer.scope)
            parts += (b"\x12" + varints[len(head) + sum(map(len, group)) + len(schema)], head)
            parts += group
            parts.append(schema)
        parts.append(self._resource_schema)
        parts[0] = b"\x0a" + varints[sum(map(len, parts))]
        return b"".join(parts)

    def _scope(self, scope: InstrumentationScope) -> tuple[bytes, bytes]:
        known = self._scopes.get(scope)
        if known is None:
            described = attributes(0x1A, (scope.attributes or {}).items())
            head = sized(0x0A, text(0x0A, scope.name) + text(0x12, scope.version) + described)
            known = self._scopes[scope] = head, text(0x1A, scope.schema_url)
        return known


def _encoded(span: LeanSpan | LeanSend) -> bytes:
    return _send(span) if type(span) is LeanSend else _span(span)  # type: ignore[arg-type]


def _send(send: LeanSend) -> bytes:
    parent, place = send.parent, send.place
    name, shared = place.encoded or _place(place)
    return span_field(
        send.trace_id,
        send.span_id,
        b"",
        None if parent is None else parent[1],
        name,
        _PRODUCER,
        send.start_time,
        send.end_time,
        shared,
        send.own,
        _tail(parent, send.flags),
    )


def _span(span: LeanSpan) -> bytes:
    parent, place = span._parent, span._place
    if place is None:
        name, shared = names[span._name], b""
    else:
        name, shared = place.encoded or _place(place)
        if span._name is not place.span_name:
            name = names[span._name]
    tail = _tail(parent, span._trace_flags)
    if (
        span._status is not UNSET
        or span._noted is not None
        or span._linked is not None
        or span._dropped_attributes
    ):
        tail = _unusual(span) + tail[len(_NO_STATUS) :]
    return span_field(
        span._trace_id,
        span._span_id,
        b"" if span._trace_state is None else _state(span._trace_state),
        None if parent is None else parent[1],
        name,
        span._kind._value_ + 1,
        span._start_time,
        span._end_time,
        shared,
        span._own,
        tail,
    )


def _tail(parent: SpanContext | None, flags: int) -> bytes:
    return _TAILS[4 * (parent is not None and parent[2]) + (flags & 3)]


def _unusual(span: LeanSpan) -> bytes:
    """Encode what few spans have: all between attributes and flags."""
    return b"".join(
        (
            number(0x50, span._dropped_attributes),
            b"" if span._noted is None else _events(span),
            b"" if span._linked is None else _links(span),
            _NO_STATUS if span._status is UNSET else _status(span._status),
        )
    )


def _place(place: Prepared) -> tuple[bytes, bytes]:
    """Encode what all hops to a destination share, once for all of them."""
    shared = attributes(0x4A, place.attributes.items())
    place.encoded = encoded = names[place.span_name], shared
    return encoded


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


_able: Final = native is not None and native.learn(
    span=LeanSpan,
    send=LeanSend,
    place=Prepared,
    unset=UNSET,
    tails=_TAILS,
    producer=_PRODUCER,
    encode=_encoded,
)

encoded: Final[Callable[[LeanSpan | LeanSend], bytes]] = native.field if _able else _encoded
"""`encoded(span)`: what has ended as the field it is in its scope.

Raises:
    OverflowError, struct.error: it has no place in OTLP: a time before 1970, say.
"""
