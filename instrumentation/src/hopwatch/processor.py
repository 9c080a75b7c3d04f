"""A span processor that puts message id, flow id and business keys on spans other instrumentations start."""

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind

from hopwatch.context import flow_id, incoming_message_id
from hopwatch.conventions import FLOW_ID, MESSAGE_ID
from hopwatch.faults import swallowed
from hopwatch.tags import key_attributes

_RECEIVING = (SpanKind.SERVER, SpanKind.CONSUMER)
_OWN_SCOPES = "hopwatch."


class HopSpanProcessor(SpanProcessor):
    """Completes spans at their start; exports nothing, so it sits beside any processor the application has."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note what the context knows on a span that crosses a process boundary."""
        try:
            if span.kind is SpanKind.INTERNAL or _is_own(span):
                return
            parent = span.parent
            if span.kind in _RECEIVING and parent is not None and parent.is_remote:
                message_id = incoming_message_id(parent_context)
                if message_id is not None:
                    span.set_attribute(MESSAGE_ID, message_id)
            flow = flow_id(parent_context)
            if flow is not None and flow != f"{span.get_span_context().trace_id:032x}":
                span.set_attribute(FLOW_ID, flow)
            keys = key_attributes(parent_context)
            if keys:
                span.set_attributes(keys)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("span start", fault)

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing is left to do at the end of a span."""

    def shutdown(self) -> None:
        """Nothing is held."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is buffered."""
        return True


def _is_own(span: Span) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and scope.name.startswith(_OWN_SCOPES)
