"""Calls in progress, told while they last: what a report says of one, and the watch over spans of other recorders."""

import time
from typing import Final
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Tracer
from opentelemetry.util.types import AttributeValue

from hopwatch.conventions import (
    CALL_HALF,
    CALL_STREAMING,
    HTTP_ROUTE,
    MESSAGE_ID,
    REPORT,
    CallHalf,
    Report,
)
from hopwatch.places import Attributes
from hopwatch.reports import reporter
from hopwatch.wrapping import guarded

_HALF_OF_IDS: Final = (1 << 64) - 1


def report(
    tracer: Tracer, span: Span, half: CallHalf, *, streaming: bool = False, late: Attributes | None = None
) -> None:
    """Tell of a call in progress: a child span without length, dated where the call began, with all it says.

    `late` is what its span will say only at its end.
    """
    said: dict[str, AttributeValue] = dict(getattr(span, "attributes", None) or {})
    said.update(late or {})
    said[REPORT] = Report.OPEN.value
    said[CALL_HALF] = half.value
    said.setdefault(MESSAGE_ID, _key(span, half))
    if streaming:
        said[CALL_STREAMING] = True
    began: int | None = getattr(span, "start_time", None)
    name, route = str(getattr(span, "name", "")), str((late or {}).get(HTTP_ROUTE, ""))
    named = f"{name} {route}" if route and route not in name else name
    context = trace.set_span_in_context(span, Context())
    tracer.start_span(f"{Report.OPEN} {named}", context, SpanKind.INTERNAL, said, start_time=began).end(began)


def _key(span: Span, half: CallHalf) -> str:
    """Return what the ledger files a call under whose caller gave it no id: the context it was sent from."""
    sender, parent = span.get_span_context(), getattr(span, "parent", None)
    if half is CallHalf.SERVE and parent is not None and parent.is_remote:
        sender = parent
    return str(UUID(int=(sender.trace_id & _HALF_OF_IDS) << 64 | sender.span_id))


class _Watched:
    """A caller's span of another instrumentation."""

    __slots__ = ("_span", "_tracer", "started")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self.started = time.monotonic()

    def report(self) -> None:
        """Tell of the call, if it is one: without a message id the span is the application's own business."""
        span = self._span
        if span.is_recording() and MESSAGE_ID in (getattr(span, "attributes", None) or {}):
            report(self._tracer, span, CallHalf.CALL)


@guarded
def watch(tracer: Tracer, span: Span) -> None:
    """Have a caller's span reported by `tracer` if it lasts; `answered` ends that."""
    if getattr(span, "kind", None) is SpanKind.CLIENT and span.is_recording():
        reporter.opened(_Watched(tracer, span), id(span))


def answered(span: Span) -> None:
    """Watch a caller's span no longer."""
    reporter.in_progress.pop(id(span), None)
