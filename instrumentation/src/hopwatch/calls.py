"""Calls: messages that are answered. Both halves of one as spans; a transport only says where and what."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from hopwatch.callmeters import CallMeters, Measured
from hopwatch.context import BAGGAGE_KEY, SPAN_KEY, get_current, with_span
from hopwatch.conventions import (
    ATTEMPT,
    ATTEMPT_HEADER,
    ERROR_TYPE,
    FLOW_ID,
    GRPC_ATTEMPTS,
    HTTP_ROUTE,
    MESSAGE_ID,
    PUBLISH_OUTCOME,
    RPC_METHOD,
    URL_FULL,
    URL_PATH,
    CallHalf,
    PublishOutcome,
)
from hopwatch.faults import swallowed
from hopwatch.hooks import Draft, Hook
from hopwatch.hops import MAX_REASON_LENGTH
from hopwatch.ids import new_message_id
from hopwatch.opencalls import report
from hopwatch.places import Attributes, Prepared
from hopwatch.propagation import inject, inject_quickly, pass_on, receive
from hopwatch.ready import Quick, QuickReceive, never_quick, never_quick_receive
from hopwatch.reports import reporter
from hopwatch.shapes import ShapedSpan
from hopwatch.tags import belong, key_attributes
from hopwatch.wrapping import guarded


class CallHop:
    """One half of a call, from its beginning to its answer: the caller's or the callee's."""

    __slots__ = (
        "_ended",
        "_half",
        "_hook",
        "_reported",
        "_said",
        "_span",
        "_streaming",
        "_tracer",
        "context",
        "late",
        "measured",
        "started",
    )

    late: Callable[[], Attributes] | None
    """Tells what the span will say only at its end and a report of an open call should say already."""

    started: float
    """When it began, on the monotonic clock."""

    measured: Measured | None
    """Its measurement, where somebody measures."""

    def __init__(
        self, tracer: Tracer, span: Span, context: Context, half: CallHalf, hook: Hook | None = None
    ) -> None:
        self._tracer = tracer
        self._hook = hook
        self._said = ShapedSpan(span, hook.redacted) if hook is not None and hook.redact is not None else span
        self.measured = None
        self._span = span
        self._half = half
        self._ended = self._reported = self._streaming = False
        self.context = context
        self.late = None
        self.started = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether `end` has been called."""
        return self._ended

    def set(self, attributes: Attributes) -> None:
        """Add what became known only during the call."""
        self._said.set_attributes(attributes)
        if self.measured is not None:
            self.measured.note(attributes)

    def streaming(self) -> None:
        """Note that the answer, or a stream of messages, has begun: from here on the call may last."""
        self._streaming = True
        if self._reported and not self._ended:
            self._reported = False  # told again at once, unless it ends before
            reporter.opened(self)

    def report(self) -> None:
        """Tell of a call still in progress."""
        self._reported = True
        late = self.late() if self.late is not None else None
        report(self._tracer, self._span, self._half, streaming=self._streaming, late=late)

    def rename(self, name: str, destination: str) -> None:
        """Give the span the name that became known only during the call, with where it went."""
        if self._hook is not None:
            attributes = dict(getattr(self._span, "attributes", None) or {})
            name = self._hook.renamed(Draft(self._half.value, destination, name, attributes))
        self._span.update_name(name)

    def end(
        self,
        attributes: Attributes | None = None,
        *,
        error: BaseException | None = None,
        error_type: str = "",
        reason: str = "",
        outcome: PublishOutcome | None = None,
        at: int | None = None,
    ) -> None:
        """Say how the call ended; only the first time counts. `at` is when, in ns since 1970, if it was earlier.

        `outcome` is for a caller whose call was not answered; where it was, the answer says all.
        """
        if self._ended:
            return
        self._ended = True
        try:
            reporter.in_progress.pop(id(self), None)
            span = self._said
            if attributes:
                self.set(attributes)
            if outcome is not None:
                span.set_attribute(PUBLISH_OUTCOME, outcome.value)
            if error is not None:
                span.record_exception(error)
            if error is not None or error_type:
                words = reason or (f"{type(error).__name__}: {error}" if error is not None else "")
                span.set_attribute(ERROR_TYPE, error_type or type(error).__qualname__)
                span.set_status(Status(StatusCode.ERROR, words[:MAX_REASON_LENGTH] or None))
            span.end(at)
            if self.measured is not None:
                self.measured.done(error_type or (type(error).__qualname__ if error is not None else ""))
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("call", fault)


@guarded
def unanswered(outcome: PublishOutcome) -> None:
    """Note on the current span, if it is that of a call, that no answer came and what that means for the call."""
    span = trace.get_current_span()
    if getattr(span, "kind", None) is SpanKind.CLIENT:
        span.set_attribute(PUBLISH_OUTCOME, outcome.value)


class Calls:
    """Begins the hops of one transport of calls; with `meters` it measures them too, `hook` is the team's say in it."""

    def __init__(self, tracer: Tracer, meters: CallMeters | None = None, hook: Hook | None = None) -> None:
        self._tracer = tracer
        self._quick: Quick = getattr(tracer, "quick", never_quick)
        self._quick_receive: QuickReceive = getattr(tracer, "quick_receive", never_quick_receive)
        self._meters = meters
        self._hook = hook
        self._executions = Executions()

    def call(
        self,
        name: str,
        attributes: dict[str, AttributeValue],
        carrier: Any,
        setter: Setter[Any],
        *,
        place: Prepared | None = None,
    ) -> CallHop:
        """Begin a call: mint a message id and inject it and the trace context into `carrier`.

        `place` says what else is said of all calls of this name, where a transport keeps it.
        """
        context = get_current()
        try:
            message_id = new_message_id()
            if context:
                belong(attributes, context)
            attributes[MESSAGE_ID] = message_id
            if place is not None:
                hop = self._call_quickly(place, attributes, carrier, setter, message_id, context)
                if hop is not None:
                    return hop
                attributes = {**place.attributes, **attributes}
            said = attributes
            if self._hook is not None:
                named, said = self._drafted(CallHalf.CALL, name, attributes)
                if named is None:
                    pass_on(carrier, setter, context)
                    return self._opened(INVALID_SPAN, context, CallHalf.CALL, attributes)
                name = named
            span = self._tracer.start_span(name, context, SpanKind.CLIENT, said)
            inject(carrier, setter, span, context, message_id)
            context = with_span(span, context)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("call", fault)
            span = INVALID_SPAN
        return self._opened(span, context, CallHalf.CALL, attributes)

    def serve(
        self,
        name: str,
        attributes: dict[str, AttributeValue],
        carrier: Any,
        getter: Getter[Any],
        *,
        place: Prepared | None = None,
    ) -> CallHop:
        """Begin to answer a call; whatever is current here belongs to whoever started the server, not to the call.

        A client that sends it again by itself does so under the id it had: each time is an attempt.
        """
        hop = self._serve(name, attributes, carrier, getter, place=place)
        self._number(hop, attributes.get(MESSAGE_ID), carrier, getter)
        return hop

    @guarded
    def _number(self, hop: CallHop, message_id: Any, carrier: Any, getter: Getter[Any]) -> None:
        if message_id is None:
            return
        attempt = max(self._executions.count(message_id), _told_attempt(carrier, getter))
        if attempt > 1:
            hop.set({ATTEMPT: attempt})

    def _serve(
        self,
        name: str,
        attributes: dict[str, AttributeValue],
        carrier: Any,
        getter: Getter[Any],
        *,
        place: Prepared | None,
    ) -> CallHop:
        context = Context()
        try:
            if place is not None:
                hop = self._serve_quickly(place, attributes, carrier, getter)
                if hop is not None:
                    return hop
            context, message_id, flow = receive(carrier, getter)
            if message_id is not None:
                attributes[MESSAGE_ID] = message_id
            if place is not None:
                attributes = {**place.attributes, **attributes}
            if flow is not None:
                attributes[FLOW_ID] = flow
            if BAGGAGE_KEY in context:
                attributes.update(key_attributes(context))
            said = attributes
            if self._hook is not None:
                named, said = self._drafted(CallHalf.SERVE, name, attributes)
                if named is None:
                    return self._opened(INVALID_SPAN, context, CallHalf.SERVE, attributes)
                name = named
            span = self._tracer.start_span(name, context, SpanKind.SERVER, said)
            context = with_span(span, context)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("serve", fault)
            span = INVALID_SPAN
        return self._opened(span, context, CallHalf.SERVE, attributes)

    def _call_quickly(
        self,
        place: Prepared,
        own: dict[str, AttributeValue],
        carrier: Any,
        setter: Setter[Any],
        message_id: str,
        context: Context,
    ) -> CallHop | None:
        """Begin a call on hopwatch's own provider; None: do it thoroughly."""
        if not self._is_ordinary():
            return None
        current: Any = context.get(SPAN_KEY) if context else None
        above = None if current is None else current.get_span_context()
        span = self._quick(place, above, SpanKind.CLIENT, own)
        if span is None:
            return None
        if span._trace_state is not None or not inject_quickly(carrier, setter, span, message_id, context):
            inject(carrier, setter, span, context, message_id)
        hop = CallHop(self._tracer, span, with_span(span, context), CallHalf.CALL)
        reporter.opened(hop)
        return hop

    def _serve_quickly(
        self, place: Prepared, own: dict[str, AttributeValue], carrier: Any, getter: Getter[Any]
    ) -> CallHop | None:
        """Begin to answer a call on hopwatch's own provider; None: do it thoroughly."""
        if not self._is_ordinary():
            return None
        begun = self._quick_receive(place, SpanKind.SERVER, carrier, getter, own)
        if begun is None:
            return None
        span, context = begun
        hop = CallHop(self._tracer, span, context, CallHalf.SERVE)
        reporter.opened(hop)
        return hop

    def _is_ordinary(self) -> bool:
        """Whether nobody has a say in calls, or measures them."""
        return self._hook is None and (self._meters is None or not self._meters.on)

    def _opened(
        self, span: Span, context: Context, half: CallHalf, attributes: dict[str, AttributeValue]
    ) -> CallHop:
        hop, meters = CallHop(self._tracer, span, context, half, self._hook), self._meters
        try:
            if meters is not None and meters.on:
                hop.measured = meters.begin(half, attributes)
            if span.is_recording():
                reporter.opened(hop)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("call", fault)
        return hop

    def _drafted(
        self, half: CallHalf, name: str, attributes: dict[str, AttributeValue]
    ) -> tuple[str | None, dict[str, AttributeValue]]:
        """Ask the team's hook what a call is called, None where it is not to be recorded, and what is said of it."""
        hook = self._hook
        if hook is None:
            return name, attributes
        named = hook.named(Draft(half.value, _destination(attributes), name, attributes))
        return named, hook.redacted(attributes) if hook.redact is not None else attributes


class Executions:
    """Counts how often a call came to this process under one id; remembers the last 10,000."""

    LIMIT: Final = 10_000

    def __init__(self) -> None:
        self._seen: OrderedDict[str, int] = OrderedDict()

    def count(self, message_id: str) -> int:
        """Return how often it has come, this time included."""
        times = self._seen[message_id] = self._seen.get(message_id, 0) + 1
        if len(self._seen) > self.LIMIT:
            self._seen.popitem(last=False)
        return times


def _told_attempt(carrier: Any, getter: Getter[Any]) -> int:
    """Return which attempt a client says that this is, 0 where it says nothing; it comes from outside."""
    for header, before in ((ATTEMPT_HEADER, 0), (GRPC_ATTEMPTS, 1)):
        told = getter.get(carrier, header)
        if told and told[0].isdecimal() and len(told[0]) < _MOST_DIGITS:
            return int(told[0]) + before
    return 0


_MOST_DIGITS: Final = 4


def _destination(attributes: Attributes) -> str:
    names = (RPC_METHOD, HTTP_ROUTE, URL_PATH, URL_FULL)
    return str(next((attributes[name] for name in names if name in attributes), ""))
