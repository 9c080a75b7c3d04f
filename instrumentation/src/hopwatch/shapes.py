"""What is done to a hop's attributes on their way into its span: the team's redaction, the old names beside the new.

Most processes ask for neither; their hops never come here.
"""

import os
import traceback
from collections.abc import Callable
from typing import Final

from opentelemetry.trace import Span, Status
from opentelemetry.util.types import AttributeValue

from hopwatch.conventions import (
    KAFKA_OFFSET,
    MESSAGING_CLIENT_ID,
    MESSAGING_CONSUMER_GROUP_NAME,
    MESSAGING_DESTINATION_PARTITION_ID,
    MESSAGING_OPERATION_TYPE,
    OLD_CLIENT_ID,
    OLD_KAFKA_GROUP,
    OLD_KAFKA_OFFSET,
    OLD_KAFKA_PARTITION,
    OLD_OPERATION,
    REASON,
    Operation,
    System,
)
from hopwatch.hooks import Hook
from hopwatch.places import Attributes

VARIABLE: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"

Shape = Callable[[Attributes], dict[str, AttributeValue]]

_OLD: Final = {MESSAGING_OPERATION_TYPE: OLD_OPERATION, MESSAGING_CLIENT_ID: OLD_CLIENT_ID}
_OLD_OF_KAFKA: Final = {
    **_OLD,
    KAFKA_OFFSET: OLD_KAFKA_OFFSET,
    MESSAGING_DESTINATION_PARTITION_ID: OLD_KAFKA_PARTITION,
    MESSAGING_CONSUMER_GROUP_NAME: OLD_KAFKA_GROUP,
}


def shape_of(system: str, hook: Hook | None) -> Shape | None:
    """Return what is to be done to the attributes of a transport's hops, None for nothing."""
    redact = hook.redacted if hook is not None and hook.redact is not None else None
    asked = {word.strip() for word in os.environ.get(VARIABLE, "").split(",")}
    if "messaging/dup" not in asked:
        return redact
    old = _OLD_OF_KAFKA if system == System.KAFKA else _OLD

    def shaped(attributes: Attributes) -> dict[str, AttributeValue]:
        kept = redact(attributes) if redact is not None else dict(attributes)
        return kept | {old[name]: _old_value(old[name], kept[name]) for name in old.keys() & kept.keys()}

    return shaped


def _old_value(name: str, value: AttributeValue) -> AttributeValue:
    if name == OLD_OPERATION and value == Operation.SEND.value:
        return "publish"
    return int(str(value)) if name == OLD_KAFKA_PARTITION else value


class ShapedSpan:
    """A hop's span, as far as hops use one, with everything said to it shaped first."""

    def __init__(self, span: Span, shape: Shape) -> None:
        self._span = span
        self._shape = shape

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set one attribute, if it is to be said."""
        self._span.set_attributes(self._shape({key: value}))

    def set_attributes(self, attributes: Attributes) -> None:
        """Set those attributes that are to be said."""
        self._span.set_attributes(self._shape(attributes))

    def record_exception(self, error: BaseException) -> None:
        """Note an exception in the words that are to be said."""
        self._span.record_exception(
            error,
            {
                "exception.message": self._said("exception.message", str(error)),
                "exception.stacktrace": self._said(
                    "exception.stacktrace", "".join(traceback.format_exception(error))
                ),
            },
        )

    def set_status(self, status: Status) -> None:
        """Set the status, its words being a reason like any other."""
        self._span.set_status(
            Status(status.status_code, self._said(REASON, status.description or "") or None)
        )

    def update_name(self, name: str) -> None:
        """Rename the span."""
        self._span.update_name(name)

    def is_recording(self) -> bool:
        """Whether the span records."""
        return self._span.is_recording()

    def add_event(self, name: str, attributes: Attributes) -> None:
        """Note something that happened, as far as it is to be said."""
        self._span.add_event(name, self._shape(attributes))

    def end(self, at: int | None = None) -> None:
        """End the span, now or at that time in ns since 1970."""
        self._span.end(at)

    def _said(self, name: str, words: str) -> str:
        return str(self._shape({name: words}).get(name, ""))
