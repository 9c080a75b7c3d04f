"""The lean span: what the API asks of a span, kept in plain fields; all that is merely read is made when asked for."""

import logging
import traceback
from collections.abc import Collection, Mapping, Sequence
from time import time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import AnyValue, Attributes

from hopwatch.lean.attributes import PLAIN, Store, cleaned, cleaned_value, put
from hopwatch.places import Prepared
from hopwatch.ready import Ready
from hopwatch.w3c import span_context, traceparent

if TYPE_CHECKING:
    from hopwatch.lean.provider import LeanTracer

_log = logging.getLogger(__name__)

_SAMPLED: Final = TraceFlags.SAMPLED

UNSET: Final = Status(StatusCode.UNSET)
"""The status of a span that nobody gave one."""


class Noted(NamedTuple):
    """An event as it is kept."""

    name: str
    timestamp: int
    attributes: Store
    dropped: int


class Linked(NamedTuple):
    """A link as it is kept."""

    context: SpanContext
    attributes: Store
    dropped: int


class LeanSpan(trace.Span, ReadableSpan):
    """A recording span. Readable like the SDK's, so that any processor or exporter of the SDK can have it.

    No lock guards it: each change is one operation on a dict or list. `_open` is deleted by the one call of `end`
    that counts. `_place` has attributes that the span shares with all hops to one destination, `_own` its others.
    """

    __slots__ = (
        "_cached_context",
        "_dropped_attributes",
        "_dropped_events",
        "_dropped_links",
        "_end_time",
        "_kind",
        "_linked",
        "_name",
        "_noted",
        "_open",
        "_own",
        "_parent",
        "_place",
        "_record_exception",
        "_set_status_on_exception",
        "_span_id",
        "_start_time",
        "_status",
        "_trace_flags",
        "_trace_id",
        "_trace_state",
        "_tracer",
    )
    _own: Store

    def __init__(
        self,
        tracer: "LeanTracer",
        name: str,
        kind: SpanKind,
        parent: SpanContext | None,
        ids: tuple[int, int],
        flags: TraceFlags,
        state: TraceState | None,
        attributes: Store,
        start_time: int,
        place: Prepared | None = None,
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._kind = kind
        self._parent = parent
        self._trace_id, self._span_id = ids
        self._trace_flags = flags
        self._trace_state = state
        self._own = attributes
        self._place = place
        self._start_time = start_time
        self._end_time: int | None = None
        self._status = UNSET
        self._dropped_attributes = 0
        self._noted: list[Noted] | None = None
        self._dropped_events = 0
        self._linked: list[Linked] | None = None
        self._dropped_links = 0
        self._cached_context: SpanContext | None = None
        self._record_exception = True
        self._set_status_on_exception = True
        self._open = True

    # --- the API -----------------------------------------------------------------------------------------

    def get_span_context(self) -> SpanContext:
        """Return what is propagated of this span; made on first use."""
        context = self._cached_context
        if context is None:
            context = self._cached_context = span_context(
                self._trace_id, self._span_id, False, self._trace_flags, self._trace_state
            )
        return context

    def traceparent(self) -> str:
        """Return the W3C header that makes this span the parent of what is received, where it has no tracestate."""
        return traceparent(self._trace_id, self._span_id, self._trace_flags)

    def is_recording(self) -> bool:
        """Whether the span has not ended."""
        return self._end_time is None

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """Set one attribute."""
        if self._closed("set_attribute"):
            return
        limits = self._tracer.limits
        if not key or not isinstance(key, str):
            _log.warning("invalid key `%s`. must be non-empty string. Dropping key from attributes.", key)
            self._dropped_attributes += 1
            return
        if type(value) not in PLAIN or limits.max_span_attribute_length is not None:
            value = cleaned_value(value, limits.max_span_attribute_length)
        own = self._own
        if key in own:
            own.pop(key, None)  # what is said again counts as new
            own[key] = value
            return
        most = limits.max_span_attributes
        store = own if self._place is None else self._beside((key,), most)
        if key not in store and (most is None or len(store) < most):
            store[key] = value
        else:
            self._dropped_attributes += put(store, most, {key: value})

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Set many attributes at once."""
        if self._closed("set_attributes") or not attributes:
            return
        limits = self._tracer.limits
        if type(attributes) is Ready and limits.max_span_attribute_length is None and self._add(attributes):
            return
        added = cleaned(attributes, limits.max_span_attribute_length)
        self._dropped_attributes += len(attributes) - len(added)
        most = limits.max_span_attributes
        store = self._own if self._place is None else self._beside(added, most)
        self._dropped_attributes += put(store, most, added)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Note something that happened during the span."""
        if self._closed("add_event"):
            return
        limits = self._tracer.limits
        kept, lost = bounded(attributes, limits.max_event_attributes, limits.max_attribute_length)
        if self._noted is None:
            self._noted = []
        self._noted.append(Noted(name, time_ns() if timestamp is None else timestamp, kept, lost))
        self._dropped_events += _trim(self._noted, limits.max_events)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Link this span to another one."""
        if self._closed("add_link"):
            return
        self._link([Link(context, attributes)])

    def update_name(self, name: str) -> None:
        """Give the span another name."""
        if not self._closed("update_name"):
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it went: OK is final, UNSET is never set again."""
        if self._closed("set_status"):
            return
        if isinstance(status, StatusCode):
            status = Status(status, description)
        elif description is not None:
            _log.warning(
                "Description %s ignored. Use either `Status` or `(StatusCode, Description)`", description
            )
        if self._status.status_code is not StatusCode.OK and status.status_code is not StatusCode.UNSET:
            self._status = status

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Note an exception with its traceback as an event."""
        kind = type(exception)
        inside = kind.__module__ and kind.__module__ != "builtins"
        described: Store = {
            "exception.type": f"{kind.__module__}.{kind.__qualname__}" if inside else kind.__qualname__,
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        described.update(attributes or {})
        self.add_event("exception", described, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """End the span and hand it on; only the first call counts."""
        try:
            del self._open
        except AttributeError:
            _log.warning("Calling end() on an ended span.")
            return
        self._end_time = time_ns() if end_time is None else end_time
        provider = self._tracer.provider
        if provider.outlet is not None and (self._trace_flags & _SAMPLED or self._tracer.ledger):
            provider.outlet.put(self)
        for processor in provider.processors:
            processor._on_ending(self)  # type: ignore[arg-type]
            processor.on_end(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is not None and self.is_recording():
            if self._record_exception:
                self.record_exception(error, escaped=True)
            if self._set_status_on_exception:
                self.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        self.end()

    # --- what is read of it ------------------------------------------------------------------------------

    @property
    def _attributes(self) -> Store:  # type: ignore[override]  # nobody but the SDK's constructor writes it
        """All attributes, where the SDK's own reading of a span looks them up."""
        place = self._place
        return self._own if place is None else {**place.attributes, **self._own}

    @property
    def context(self) -> SpanContext:
        """The span's own context."""
        return self.get_span_context()

    @property
    def resource(self) -> Resource:
        """Who recorded the span."""
        return self._tracer.resource

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """The library that recorded the span."""
        return self._tracer.scope

    @property
    def events(self) -> Sequence[Event]:
        """The events noted so far."""
        return tuple(
            Event(noted.name, _readable(noted.attributes, noted.dropped), noted.timestamp)
            for noted in self._noted or ()
        )

    @property
    def links(self) -> Sequence[Link]:
        """The links known so far."""
        return tuple(
            Link(linked.context, _readable(linked.attributes, linked.dropped))
            for linked in self._linked or ()
        )

    @property
    def dropped_attributes(self) -> int:
        """How many attributes the limits cost."""
        return self._dropped_attributes

    @property
    def dropped_events(self) -> int:
        """How many events the limits cost."""
        return self._dropped_events

    @property
    def dropped_links(self) -> int:
        """How many links the limits cost."""
        return self._dropped_links

    # What the SDK's own reading of a span (`to_json`) looks up.
    _context = context
    _resource = resource
    _instrumentation_scope = instrumentation_scope
    _events = events
    _links = links

    _instrumentation_info = None  # long deprecated

    def __repr__(self) -> str:
        return f"LeanSpan(name={self._name!r}, context={self.get_span_context()})"

    # --- how the tracer completes a new one --------------------------------------------------------------

    def _link(self, links: Sequence[Link]) -> None:
        limits = self._tracer.limits
        for link in links:
            context = link.context if link else None
            if not context or not (context.is_valid or link.attributes or context.trace_state):
                continue
            if self._linked is None:
                self._linked = []
            kept = bounded(link.attributes, limits.max_link_attributes, limits.max_attribute_length)
            self._linked.append(Linked(context, *kept))
        if self._linked is not None:
            self._dropped_links += _trim(self._linked, limits.max_links)

    def _add(self, attributes: Ready) -> bool:
        """Add plain attributes of which none has been said yet, if there is room; whether done."""
        own, shared = self._own, self._place.attributes if self._place is not None else {}
        most = self._tracer.limits.max_span_attributes
        if most is not None and len(own) + len(shared) + len(attributes) > most:
            return False
        if not (own.keys().isdisjoint(attributes) and shared.keys().isdisjoint(attributes)):
            return False
        own.update(attributes)
        return True

    def _beside(self, keys: Collection[str], most: int | None) -> Store:
        """Return what further attributes go into; those shared with others become its own where these may touch them."""
        place = self._place
        if place is None:
            return self._own
        shared = place.attributes
        full = most is not None and len(shared) + len(self._own) + len(keys) > most
        if full or not shared.keys().isdisjoint(keys):
            self._own = {**shared, **self._own}
            self._place = None
        return self._own

    def _closed(self, call: str) -> bool:
        if self._end_time is None:
            return False
        _log.warning("Tried calling %s on an ended span.", call)
        return True


def bounded(attributes: Attributes, count: int | None, length: int | None) -> tuple[Store, int]:
    """Return attributes within limits, and how many were lost to them."""
    if not attributes:
        return {}, 0
    owned = cleaned(attributes, length)
    lost = len(attributes) - len(owned)
    while count is not None and len(owned) > count:
        del owned[next(iter(owned))]
        lost += 1
    return owned, lost


def _trim(kept: list[Noted] | list[Linked], limit: int | None) -> int:
    excess = max(len(kept) - limit, 0) if limit is not None else 0
    del kept[:excess]
    return excess


def _readable(attributes: Store, dropped: int) -> BoundedAttributes:
    readable = BoundedAttributes(attributes=attributes)
    readable.dropped = dropped
    return readable
