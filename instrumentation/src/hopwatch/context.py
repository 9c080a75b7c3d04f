"""What hopwatch keeps in the OpenTelemetry context: the message being handled, the flow it belongs to."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace import INVALID_SPAN, Span

from hopwatch.w3c import FlowState, flow_in, is_flow_id

__all__ = [
    "BAGGAGE_KEY",
    "FLOW_KEY",
    "INCOMING_KEY",
    "SPAN_KEY",
    "SUPPRESSED_KEY",
    "attach",
    "flow_id",
    "foreign_flow",
    "get_current",
    "incoming_message_id",
    "is_flow_id",
    "outgoing_message_id",
    "with_flow",
    "with_incoming",
    "with_outgoing",
    "with_span",
]

INCOMING_KEY: Final = otel_context.create_key("hopwatch-incoming-message")
"""Where a context holds the id of the message being handled."""

FLOW_KEY: Final = otel_context.create_key("hopwatch-flow")
"""Where a context holds the flow it belongs to."""

[SPAN_KEY] = trace.set_span_in_context(INVALID_SPAN, Context())
"""Where OpenTelemetry keeps the current span: a context made with it at once is a fifth of one made value by value."""

[BAGGAGE_KEY] = baggage.set_baggage("a", "b", Context())
"""Where OpenTelemetry keeps baggage."""

SUPPRESSED_KEY: Final = "suppress_instrumentation"
"""Where `suppress_instrumentation()` of OpenTelemetry's instrumentations says that nothing is to be recorded."""

_runtime: Any = getattr(otel_context, "_RUNTIME_CONTEXT", otel_context)
_variable: Any = getattr(_runtime, "_current_context", None)
_direct = type(_runtime) is ContextVarsRuntimeContext and isinstance(_variable, ContextVar)
get_current: Final[Callable[[], Context]] = _variable.get if _direct else _runtime.get_current
"""OpenTelemetry's `get_current` without the two functions around its variable, which are most of its cost."""

attach: Final[Callable[[Context], object]] = _variable.set if _direct else _runtime.attach
"""OpenTelemetry's `attach`, likewise."""

_OUTGOING = otel_context.create_key("hopwatch-outgoing-message")


def with_incoming(message_id: str | None, context: Context | None = None) -> Context:
    """Return a context whose handled message is `message_id`; None forgets an outer one."""
    return otel_context.set_value(INCOMING_KEY, message_id, context)


def incoming_message_id(context: Context | None = None) -> str | None:
    """Return the id of the message being handled here, if any."""
    value = otel_context.get_value(INCOMING_KEY, context)
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
    return otel_context.set_value(FLOW_KEY, flow_id, context)


def with_span(span: Span, context: Context) -> Context:
    """Return a context whose current span is `span`, in one copy where the API makes two."""
    return Context({**context, SPAN_KEY: span})


def foreign_flow(context: Context) -> str | None:
    """Return the flow a context belongs to, where the trace id of its span is not the flow's own."""
    span = context.get(SPAN_KEY)
    if span is None:
        kept = context.get(FLOW_KEY)
        return kept if isinstance(kept, str) else None
    span_context = span.get_span_context()  # type: ignore[attr-defined]  # the API keeps nothing but spans there
    state = span_context.trace_state
    if type(state) is FlowState:
        return None if state.number == span_context.trace_id else state.flow
    flow = flow_in(state) or context.get(FLOW_KEY)
    return flow if isinstance(flow, str) and int(flow, 16) != span_context.trace_id else None


def flow_id(context: Context | None = None) -> str | None:
    """Return the flow this context belongs to: 32 hex digits, or None outside any flow.

    The tracestate of the current span decides; then what `with_flow` kept; then the current trace is its own flow.
    """
    span_context = trace.get_current_span(context).get_span_context()
    carried = flow_in(span_context.trace_state)
    if carried is not None:
        return carried
    kept = otel_context.get_value(FLOW_KEY, context)
    if isinstance(kept, str):
        return kept
    return f"{span_context.trace_id:032x}" if span_context.is_valid else None
