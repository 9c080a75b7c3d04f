"""Beginning what was sent to us, on hopwatch's own provider: of hops and calls alike."""

from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AnyValue

from hopwatch.context import FLOW_KEY, INCOMING_KEY, SPAN_KEY
from hopwatch.conventions import FLOW_ID, MESSAGE_ID
from hopwatch.places import Prepared
from hopwatch.propagation import sender_of
from hopwatch.ready import Quick

if TYPE_CHECKING:
    from hopwatch.lean.span import LeanSpan


def begin_quickly(
    quick: Quick, place: Prepared, kind: SpanKind, carrier: Any, getter: Getter[Any], own: dict[str, AnyValue]
) -> "tuple[LeanSpan, Context] | None":
    """Begin a span below the sender in `carrier`, and the context of what is done for the message.

    None where more came with it than ids, or something is set up that only `Tracer.start_span` heeds. `own` is what is
    said of it besides what `place` says; its ids are added.
    """
    sender = sender_of(carrier, getter)
    if sender is None:
        return None
    above, message_id, flow, foreign = sender
    if message_id is not None:
        own[MESSAGE_ID] = message_id
    if foreign and flow is not None:
        own[FLOW_ID] = flow
    span = quick(place, above, kind, own)
    if span is None:
        return None
    known: dict[str, object] = {SPAN_KEY: span, INCOMING_KEY: message_id}
    if flow is not None:
        known[FLOW_KEY] = flow
    return span, Context(known)
