"""Business keys: `with hopwatch.tag(order_id=…)` makes every hop downstream searchable by them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from hopwatch.context import BAGGAGE_KEY, foreign_flow
from hopwatch.conventions import BAGGAGE_KEY_PREFIX, FLOW_ID, KEY_PREFIX

MAX_KEYS = 8
"""Business keys that may travel with one message; further ones are not sent."""

MAX_VALUE_LENGTH = 128
"""Characters of a business key's value that travel; longer values are cut."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@contextmanager
def tag(**keys: object) -> Iterator[None]:
    """Give every hop begun inside, here and downstream, these business keys.

    Names are lower-case identifiers of at most 32 characters; values are cut at 128 characters; at most eight
    keys travel. The current span gets those keys it does not have yet: a key that came with the message being
    handled is about that message, a nested tag of the same name about what is begun inside.

    Raises:
        ValueError: a name has another form.
    """
    for name in keys:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"business key {name!r} must be lower-case letters, digits and _, at most 32 characters"
            )
    before = otel_context.get_current()
    context = before
    span = trace.get_current_span()
    known = getattr(span, "attributes", None) or {}
    for name, value in keys.items():
        text = str(value)[:MAX_VALUE_LENGTH]
        context = baggage.set_baggage(BAGGAGE_KEY_PREFIX + name, text, context)
        if KEY_PREFIX + name not in known:
            span.set_attribute(KEY_PREFIX + name, text)
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)


def key_attributes(context: Context | None = None) -> Mapping[str, str]:
    """Return the business keys in force as span attributes; what arrived from outside is bounded here too."""
    carried = baggage.get_all(context)
    if not carried:
        return {}
    found = {
        KEY_PREFIX + name.removeprefix(BAGGAGE_KEY_PREFIX): str(value)[:MAX_VALUE_LENGTH]
        for name, value in carried.items()
        if name.startswith(BAGGAGE_KEY_PREFIX) and _NAME.fullmatch(name.removeprefix(BAGGAGE_KEY_PREFIX))
    }
    return dict(list(found.items())[:MAX_KEYS])


def belong(described: dict[str, AttributeValue], context: Context) -> None:
    """Say of a span begun in `context` whose business it is: business keys, and the flow if its trace does not tell."""
    if BAGGAGE_KEY in context:
        described.update(key_attributes(context))
    flow = foreign_flow(context)
    if flow is not None:
        described[FLOW_ID] = flow
