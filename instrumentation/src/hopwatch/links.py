"""Links from a copy to the message it was made of, where an application sends one on outside its handler."""

from collections.abc import Sequence
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, default_getter
from opentelemetry.trace import Link

from hopwatch.context import incoming_message_id
from hopwatch.conventions import MESSAGE_ID, MESSAGE_ID_HEADER
from hopwatch.faults import swallowed


def link_to_original(carrier: Any, getter: Getter[Any] = default_getter) -> Sequence[Link]:
    """Return a link to the message whose headers an application copied into one it sends, by its id and sender.

    None where that is the message being handled here: the send's parent says so already.
    """
    try:
        handled = incoming_message_id()
        if handled is not None and getter.get(carrier, MESSAGE_ID_HEADER) == [handled]:
            return ()
        original = propagate.extract(carrier, Context(), getter)
        message_id = incoming_message_id(original)
        sender = trace.get_current_span(original).get_span_context()
        if not sender.is_valid:
            return ()
        return (Link(sender, {MESSAGE_ID: message_id} if message_id is not None else None),)
    except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
        swallowed("link", fault)
        return ()
