"""The propagator that adds message and flow ids to whatever the application's own propagators send.

Existing instrumentations (FastAPI, gRPC, httpx, …) carry our ids unchanged, because all of them inject and
extract through OpenTelemetry's global propagator.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import Span, SpanKind

from hopwatch.context import flow_id, outgoing_message_id, with_flow, with_incoming
from hopwatch.conventions import (
    BAGGAGE_KEY_PREFIX,
    MESSAGE_ID,
    MESSAGE_ID_HEADER,
    SERVER_ADDRESS,
    TRACESTATE_KEY,
)
from hopwatch.ids import is_message_id, new_message_id

_TRACESTATE_HEADER = "tracestate"
_INTERNAL_SUFFIXES = (".local", ".internal", ".svc", ".cluster.local", ".localhost")


class HopwatchPropagator(TextMapPropagator):
    """Adds `hopwatch-id` and the flow id to what `delegate` injects, and reads them back.

    `delegate` is the application's own propagator; without one (as a member of `OTEL_PROPAGATORS`) only our
    two values travel, and business keys are left to the baggage propagator beside us.
    `baggage_hosts` are hosts outside the local network that may see business keys over HTTP.
    """

    def __init__(
        self, delegate: TextMapPropagator | None = None, baggage_hosts: frozenset[str] = frozenset()
    ) -> None:
        self.delegate = delegate
        self._baggage_hosts = baggage_hosts

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Inject the trace context, then mint a message id and note it on the span that sends."""
        span = trace.get_current_span(context)
        if self.delegate is not None:
            self.delegate.inject(carrier, self._visible_to(span, context), setter)
        if not span.get_span_context().is_valid:
            return
        message_id = outgoing_message_id(context) or new_message_id()
        if _sends(span):
            span.set_attribute(MESSAGE_ID, message_id)
        setter.set(carrier, MESSAGE_ID_HEADER, message_id)
        flow = flow_id(context)
        if flow is not None:
            state = span.get_span_context().trace_state
            state = (
                state.update(TRACESTATE_KEY, flow)
                if TRACESTATE_KEY in state
                else state.add(TRACESTATE_KEY, flow)
            )
            setter.set(carrier, _TRACESTATE_HEADER, state.to_header())

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Extract the trace context and the message id; malformed ids are as good as none."""
        extracted = context if context is not None else Context()
        if self.delegate is not None:
            extracted = self.delegate.extract(carrier, context, getter)
        found = getter.get(carrier, MESSAGE_ID_HEADER)
        message_id = found[0] if found else None
        extracted = with_incoming(message_id if message_id and is_message_id(message_id) else None, extracted)
        flow = flow_id(extracted) if trace.get_current_span(extracted).get_span_context().is_remote else None
        return with_flow(flow, extracted) if flow is not None else extracted

    @property
    def fields(self) -> set[str]:
        """Names of the headers this propagator writes."""
        inherited = self.delegate.fields if self.delegate is not None else set()
        return inherited | {MESSAGE_ID_HEADER, _TRACESTATE_HEADER}

    def _visible_to(self, span: Span, context: Context | None) -> Context | None:
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


def is_internal(host: str) -> bool:
    """Whether a host name or address belongs to the local network: loopback, private range, or a bare name."""
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_INTERNAL_SUFFIXES)
    return address.is_private or address.is_loopback


def _sends(span: Span) -> bool:
    return getattr(span, "kind", None) in (SpanKind.CLIENT, SpanKind.PRODUCER)


def _http_host(span: Span) -> str | None:
    """Return the host an HTTP client span is about to call, None for anything that is not an HTTP call."""
    attributes = getattr(span, "attributes", None) or {}
    url = attributes.get("url.full") or attributes.get("http.url")
    if url is None:
        return None
    host = attributes.get(SERVER_ADDRESS) or urlsplit(str(url)).hostname
    return str(host) if host else ""
