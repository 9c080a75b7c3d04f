"""The propagator that adds message and flow ids to whatever the application's own propagators send.

Existing instrumentations (FastAPI, gRPC, httpx, …) carry our ids unchanged, because all of them inject and
extract through OpenTelemetry's global propagator.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hopwatch import w3c
from hopwatch.context import (
    BAGGAGE_KEY,
    FLOW_KEY,
    INCOMING_KEY,
    SPAN_KEY,
    flow_id,
    foreign_flow,
    incoming_message_id,
    outgoing_message_id,
    with_flow,
    with_incoming,
    with_outgoing,
)
from hopwatch.conventions import (
    BAGGAGE_KEY_PREFIX,
    MESSAGE_ID,
    MESSAGE_ID_HEADER,
    SERVER_ADDRESS,
)
from hopwatch.ids import is_message_id, new_message_id

if TYPE_CHECKING:
    from hopwatch.lean.span import LeanSpan

_NOWHERE = "address.invalid"
"""For the host of an address that is none (RFC 6761): whoever it is, it is not one of ours."""

_INTERNAL_SUFFIXES = (".local", ".internal", ".svc", ".cluster.local", ".localhost")


Received = tuple[Context, str | None, str | None]
"""The context of what is done for a message, its id, and its flow where the trace it came with is not the flow's own."""

Sender = tuple[SpanContext, str | None, str, bool]
"""Who sent a message: span context, the message's id, its flow, and whether that is another than the sender's trace."""


class HopwatchPropagator(TextMapPropagator):
    """Adds `hopwatch-id` and the flow id to what `delegate` injects, and reads them back.

    `delegate` is the application's own propagator; without one (as a member of `OTEL_PROPAGATORS`) only our
    two values travel, and business keys are left to the baggage propagator beside us.
    `baggage_hosts` are hosts outside the local network that may see business keys over HTTP.
    """

    __slots__ = ("_baggage", "_baggage_hosts", "by_hand", "delegate")

    def __init__(
        self, delegate: TextMapPropagator | None = None, baggage_hosts: frozenset[str] = frozenset()
    ) -> None:
        self.delegate = delegate
        self._baggage_hosts = baggage_hosts
        self._baggage = _w3c_baggage(delegate)
        """The default's half for baggage, where `delegate` is the default: then the rest is done by hand."""
        self.by_hand = self._baggage is not None

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Inject the trace context, then mint a message id and note it on the span that sends."""
        if context is None:
            context = otel_context.get_current()
        span = trace.get_current_span(context)
        span_context = span.get_span_context()
        if not span_context.is_valid:
            if self.delegate is not None:
                self.delegate.inject(carrier, self._visible_to(span, context), setter)
            return
        message_id = outgoing_message_id(context) or new_message_id()
        if _sends(span):
            span.set_attribute(MESSAGE_ID, message_id)
        self.send(carrier, setter, span, span_context, context, message_id)

    def send(
        self,
        carrier: CarrierT,
        setter: Setter[CarrierT],
        span: Span,
        span_context: SpanContext,
        context: Context,
        message_id: str,
    ) -> None:
        """Inject what travels with the message `message_id` that `span` sends, `context` being the one around it."""
        if self._baggage is None:
            self._send_generally(carrier, setter, span, context, message_id)
            return
        kept = context.get(FLOW_KEY)
        fields = w3c.write(span_context, kept if isinstance(kept, str) else None)
        fields[MESSAGE_ID_HEADER] = message_id
        if context.get(BAGGAGE_KEY):
            self._baggage.inject(fields, self._visible_to(span, context))
        fill(carrier, setter, fields)

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Extract the trace context and the message id; malformed ids are as good as none."""
        if self._baggage is None:
            return self._extract_generally(carrier, context, getter)
        return self._extract_by_hand(carrier, context, getter)[0]

    def receive(self, carrier: CarrierT, getter: Getter[CarrierT]) -> Received:
        """Extract what came with a message into a context of its own."""
        if self._baggage is not None:
            return self._extract_by_hand(carrier, None, getter)
        return received(self._extract_generally(carrier, None, getter))

    @property
    def fields(self) -> set[str]:
        """Names of the headers this propagator writes."""
        inherited = self.delegate.fields if self.delegate is not None else set()
        return inherited | {MESSAGE_ID_HEADER, w3c.TRACESTATE}

    def _send_generally(
        self, carrier: CarrierT, setter: Setter[CarrierT], span: Span, context: Context, message_id: str
    ) -> None:
        """Let the application's propagators, whatever they are, write first."""
        sending = trace.set_span_in_context(span, context)
        if self.delegate is not None:
            self.delegate.inject(carrier, self._visible_to(span, sending), setter)
        setter.set(carrier, MESSAGE_ID_HEADER, message_id)
        span_context = span.get_span_context()
        state = w3c.with_flow(span_context.trace_state, flow_id(sending), f"{span_context.trace_id:032x}")
        if state is not span_context.trace_state:
            setter.set(carrier, w3c.TRACESTATE, state.to_header())

    def _extract_by_hand(
        self, carrier: CarrierT, context: Context | None, getter: Getter[CarrierT]
    ) -> Received:
        fields = _fields(carrier, getter)
        clean = w3c.sender(fields)
        if clean is None or clean is w3c.NOBODY:
            return received(self._extract_generally(carrier, context, getter))
        sender, message_id, flow, foreign = clean
        assert sender is not None
        values = {SPAN_KEY: NonRecordingSpan(sender), INCOMING_KEY: message_id, FLOW_KEY: flow}
        extracted = Context({**context, **values} if context else values)
        if w3c.BAGGAGE in fields and self._baggage is not None:
            extracted = self._baggage.extract(fields, extracted)
        return extracted, message_id, flow if foreign else None

    def _extract_generally(
        self, carrier: CarrierT, context: Context | None, getter: Getter[CarrierT]
    ) -> Context:
        """Let the application's propagators, whatever they are, read first."""
        extracted = context if context is not None else Context()
        if self.delegate is not None:
            extracted = self.delegate.extract(carrier, context, getter)
        found = getter.get(carrier, MESSAGE_ID_HEADER)
        message_id = found[0] if found else None
        extracted = with_incoming(message_id if message_id and is_message_id(message_id) else None, extracted)
        flow = flow_id(extracted) if trace.get_current_span(extracted).get_span_context().is_remote else None
        return with_flow(flow, extracted) if flow is not None else extracted

    def _visible_to(self, span: Span, context: Context) -> Context:
        """Drop business keys from a context that is about to leave for a host outside the configured ones."""
        keys = [key for key in baggage.get_all(context) if key.startswith(BAGGAGE_KEY_PREFIX)]
        if not keys:
            return context
        host = _http_host(span)
        if host is None or host in self._baggage_hosts or is_internal(host):
            return context
        for key in keys:
            context = baggage.remove_baggage(key, context)
        return context


def inject(
    carrier: CarrierT, setter: Setter[CarrierT], span: Span, context: Context, message_id: str
) -> None:
    """Inject what travels with the message that `span` sends, through the propagator in force; replaces."""
    propagator = propagate.get_global_textmap()
    span_context = span.get_span_context()
    if type(propagator) is HopwatchPropagator and span_context.is_valid:
        propagator.send(carrier, setter, span, span_context, context, message_id)
    else:
        propagator.inject(
            carrier, with_outgoing(message_id, trace.set_span_in_context(span, context)), setter
        )


def inject_quickly(
    carrier: Any, setter: Setter[Any], sender: "LeanSpan", message_id: str, context: Context
) -> bool:
    """Do what `inject` does for what sends on our own provider, if its ids are all that travels; whether done."""
    if not is_by_hand():
        return False
    traceparent = sender.traceparent()
    if context and (
        # A context may hold a flow that is the trace itself: then the trace says it.
        BAGGAGE_KEY in context or context.get(FLOW_KEY, traceparent[3:35]) != traceparent[3:35]
    ):
        return False
    put_ids(carrier, setter, traceparent, message_id)
    return True


def is_by_hand() -> bool:
    """Whether our propagator is in force, around the default ones."""
    propagator = propagate._HTTP_TEXT_FORMAT  # what `get_global_textmap` returns, for a third of its cost
    return type(propagator) is HopwatchPropagator and propagator.by_hand


def put_ids(carrier: Any, setter: Setter[Any], traceparent: str, message_id: str) -> None:
    """Set the two headers that most messages carry: at once where the setter can (`ids(carrier, traceparent, message_id)`)."""
    if setter is default_setter and type(carrier) is dict:
        carrier[w3c.TRACEPARENT] = traceparent
        carrier[MESSAGE_ID_HEADER] = message_id
    elif (at_once := getattr(setter, "ids", None)) is not None:
        at_once(carrier, traceparent, message_id)
    else:
        setter.set(carrier, w3c.TRACEPARENT, traceparent)
        setter.set(carrier, MESSAGE_ID_HEADER, message_id)


def sender_of(carrier: Any, getter: Getter[Any]) -> w3c.Sender | None:
    """Return who sent a message by the default propagators, None where its headers hold more than ids."""
    read = getattr(getter, "sender", None)
    if read is not None and (found := read(carrier)) is not None:
        sender: w3c.Sender = found
        return sender
    fields = _fields(carrier, getter)
    return None if w3c.BAGGAGE in fields else w3c.sender(fields)


def receive(carrier: CarrierT, getter: Getter[CarrierT]) -> Received:
    """Extract what came with a message into a context of its own, through the propagator in force."""
    propagator = propagate.get_global_textmap()
    if type(propagator) is HopwatchPropagator:
        return propagator.receive(carrier, getter)
    return received(propagator.extract(carrier, Context(), getter))


def pass_on(carrier: CarrierT, setter: Setter[CarrierT], context: Context) -> None:
    """Inject the trace context that is current, and no message id: for a message that is not recorded."""
    propagator: TextMapPropagator | None = propagate.get_global_textmap()
    if isinstance(propagator, HopwatchPropagator):
        propagator = propagator.delegate
    if propagator is not None:
        propagator.inject(carrier, context, setter)


def received(context: Context) -> Received:
    """Return what an extracted context says of its message."""
    return context, incoming_message_id(context), foreign_flow(context)


def fill(carrier: CarrierT, setter: Setter[CarrierT], fields: Mapping[str, str]) -> None:
    """Set all of these headers: at once where the setter can (`fill(carrier, fields)`), else one by one."""
    at_once = getattr(setter, "fill", None)
    if at_once is not None:
        at_once(carrier, fields)
    elif setter is default_setter and isinstance(carrier, dict):
        carrier.update(fields)
    else:
        for name, value in fields.items():
            setter.set(carrier, name, value)


def _fields(carrier: CarrierT, getter: Getter[CarrierT]) -> dict[str, str]:
    """Return the headers we read: at once where the getter can (`fields(carrier)`), else one by one."""
    at_once = getattr(getter, "fields", None)
    if at_once is not None:
        fields: dict[str, str] = at_once(carrier)
        return fields
    found = ((name, getter.get(carrier, name)) for name in w3c.TRAVELLING)
    return {
        name: ",".join(values) if name == w3c.TRACESTATE else values[0] for name, values in found if values
    }


def is_internal(host: str) -> bool:
    """Whether a host name or address belongs to the local network: loopback, private range, or a bare name."""
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_INTERNAL_SUFFIXES)
    return address.is_private or address.is_loopback


def _w3c_baggage(delegate: TextMapPropagator | None) -> W3CBaggagePropagator | None:
    """Return the baggage half of OpenTelemetry's default propagator, None if `delegate` is any other."""
    parts: Any = getattr(delegate, "_propagators", ()) if type(delegate) is CompositePropagator else ()
    if not w3c.POSSIBLE or [type(part) for part in parts] != [
        TraceContextTextMapPropagator,
        W3CBaggagePropagator,
    ]:
        return None
    half: W3CBaggagePropagator = parts[1]
    return half


def _sends(span: Span) -> bool:
    return getattr(span, "kind", None) in (SpanKind.CLIENT, SpanKind.PRODUCER)


def _http_host(span: Span) -> str | None:
    """Return the host an HTTP client span is about to call, None for anything that is not an HTTP call."""
    attributes = getattr(span, "attributes", None) or {}
    url = attributes.get("url.full") or attributes.get("http.url")
    if url is None:
        return None
    try:
        host = attributes.get(SERVER_ADDRESS) or urlsplit(str(url)).hostname
    except ValueError:
        return _NOWHERE
    return str(host) if host else ""
