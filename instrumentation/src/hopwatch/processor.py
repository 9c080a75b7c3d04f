"""What puts message id, flow id and business keys on the spans that other instrumentations start."""

from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanContext, SpanKind
from opentelemetry.util.types import AnyValue

from hopwatch.context import flow_id, incoming_message_id
from hopwatch.conventions import FLOW_ID, MESSAGE_ID
from hopwatch.faults import swallowed
from hopwatch.tags import key_attributes

OWN_SCOPES: Final = "hopwatch."
"""Our own recorder's spans say all of it themselves."""

_RECEIVING = (SpanKind.SERVER, SpanKind.CONSUMER)


def crossing_attributes(
    kind: SpanKind, parent: SpanContext | None, trace_id: int, context: Context | None
) -> dict[str, AnyValue]:
    """Return what the context knows about a span that crosses a process boundary."""
    known: dict[str, AnyValue] = {}
    if kind in _RECEIVING and parent is not None and parent.is_remote:
        message_id = incoming_message_id(context)
        if message_id is not None:
            known[MESSAGE_ID] = message_id
    flow = flow_id(context)
    if flow is not None and flow != f"{trace_id:032x}":
        known[FLOW_ID] = flow
    known.update(key_attributes(context))
    return known


class HopSpanProcessor(SpanProcessor):
    """Completes spans of an SDK provider at their start; exports nothing, so it sits beside any other processor."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note what the context knows on a span that crosses a process boundary."""
        try:
            if span.kind is SpanKind.INTERNAL or _is_own(span):
                return
            trace_id = span.get_span_context().trace_id
            known = crossing_attributes(span.kind, span.parent, trace_id, parent_context)
            if known:
                span.set_attributes(known)
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
    return scope is not None and scope.name.startswith(OWN_SCOPES)
