"""The sending half of a hop on hopwatch's own provider: a record, and a span only where more is said than usual."""

from time import time_ns
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from hopwatch.conventions import MESSAGE_ID, PUBLISH_OUTCOME, PublishOutcome
from hopwatch.faults import swallowed
from hopwatch.hops import BAD_OUTCOMES, SpanSend
from hopwatch.lean.attributes import Store
from hopwatch.lean.span import LeanSpan
from hopwatch.native import native
from hopwatch.places import Attributes, Destination, Position, Prepared
from hopwatch.w3c import traceparent

if TYPE_CHECKING:
    from hopwatch.lean.provider import LeanTracer


class LeanSend:
    """A send as most are: ids, times, where to, an outcome, a position. See `hopwatch.hops.SendHop`.

    Nobody but its transport ever holds it, so that no span needs to exist; what goes out is what `span` returns.
    """

    __slots__ = (
        "_grown",
        "_tracer",
        "end_time",
        "flags",
        "message_id",
        "own",
        "parent",
        "place",
        "span_id",
        "start_time",
        "trace_id",
    )

    def __init__(
        self,
        tracer: "LeanTracer",
        place: Prepared,
        parent: SpanContext | None,
        trace_id: int,
        span_id: int,
        flags: TraceFlags,
        own: Store,
        message_id: str,
    ) -> None:
        self._tracer = tracer
        self.place = place
        self.parent = parent
        self.trace_id = trace_id
        self.span_id = span_id
        self.flags = flags
        self.own = own
        own[MESSAGE_ID] = message_id
        self.message_id = message_id
        self.start_time = time_ns()
        self.end_time: int | None = None
        self._grown: SpanSend | None = None

    def traceparent(self) -> str:
        """Return the W3C header that makes this send the parent of what is received."""
        return traceparent(self.trace_id, self.span_id, self.flags)

    def set(self, attributes: Attributes) -> None:
        """Add what became known only during the send."""
        self.grown().set(attributes)

    def address(self, name: str, destination: Destination) -> None:
        """Say where the message goes, where that was not known when the send began."""
        self.grown().address(name, destination)

    def end(
        self,
        outcome: PublishOutcome,
        *,
        reason: str = "",
        position: Position | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Say what became of the send; only the first call counts."""
        if self.end_time is not None:
            return
        said = outcome._value_
        if error is not None or reason or said in BAD_OUTCOMES:
            self.grown().end(outcome, reason=reason, position=position, error=error)
            return
        try:
            last = position.attributes() if position is not None else None
            if native is not None and native.sent(self, said, last, time_ns):
                return
            provider = self._tracer.provider
            if self._grown is not None or provider.processors:
                self.grown().end(outcome, position=position)
                return
            if last is not None:
                self.own.update(last)
            self.own[PUBLISH_OUTCOME] = said
            self.end_time = time_ns()
            if provider.outlet is not None:
                provider.outlet.put(self)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("send", fault)

    def grown(self) -> SpanSend:
        """Return this send as one that has a span, from now on: for all that is unusual."""
        if self._grown is None:
            self._grown = SpanSend(self.span(), self.message_id)
        return self._grown

    def span(self) -> LeanSpan:
        """Return the span that this send is."""
        place = self.place
        ids = self.trace_id, self.span_id
        span = LeanSpan(
            self._tracer,
            place.span_name,
            SpanKind.PRODUCER,
            self.parent,
            ids,
            self.flags,
            None,
            dict(self.own),
            self.start_time,
            place,
        )
        if self.end_time is not None:
            span._end_time = self.end_time
            del span._open
        return span
