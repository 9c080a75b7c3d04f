"""What hopwatch keeps in the OpenTelemetry context: the message being handled, the flow it belongs to."""

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext

from hopwatch.conventions import TRACESTATE_KEY

_INCOMING = otel_context.create_key("hopwatch-incoming-message")
_OUTGOING = otel_context.create_key("hopwatch-outgoing-message")
_FLOW = otel_context.create_key("hopwatch-flow")


def with_incoming(message_id: str | None, context: Context | None = None) -> Context:
    """Return a context whose handled message is `message_id`; None forgets an outer one."""
    return otel_context.set_value(_INCOMING, message_id, context)


def incoming_message_id(context: Context | None = None) -> str | None:
    """Return the id of the message being handled here, if any."""
    value = otel_context.get_value(_INCOMING, context)
    return value if isinstance(value, str) else None


def with_outgoing(message_id: str, context: Context | None = None) -> Context:
    """Return a context in which the next injection carries `message_id` instead of minting one."""
    return otel_context.set_value(_OUTGOING, message_id, context)


def outgoing_message_id(context: Context | None = None) -> str | None:
    """Return the id that a recorder has minted for the message now being sent."""
    value = otel_context.get_value(_OUTGOING, context)
    return value if isinstance(value, str) else None


def with_flow(flow_id: str, context: Context | None = None) -> Context:
    """Return a context that belongs to `flow_id` even if a new trace is started in it."""
    return otel_context.set_value(_FLOW, flow_id, context)


def flow_id(context: Context | None = None) -> str | None:
    """Return the flow this context belongs to: 32 hex digits, or None outside any flow.

    The tracestate of the current span decides; then what `with_flow` kept; then the current trace is its own flow.
    """
    span_context = trace.get_current_span(context).get_span_context()
    carried = _flow_in(span_context)
    if carried is not None:
        return carried
    kept = otel_context.get_value(_FLOW, context)
    if isinstance(kept, str):
        return kept
    return f"{span_context.trace_id:032x}" if span_context.is_valid else None


def is_flow_id(text: str) -> bool:
    """Whether untrusted text has the form of a flow id."""
    return len(text) == 32 and all(digit in "0123456789abcdef" for digit in text)


def _flow_in(span_context: SpanContext) -> str | None:
    value = span_context.trace_state.get(TRACESTATE_KEY) if span_context.trace_state else None
    return value if value is not None and is_flow_id(value) else None
