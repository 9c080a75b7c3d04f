"""What hopwatch's own recorder and tracer agree on: attributes that need no looking at, and a quick way to begin."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind
    from opentelemetry.util.types import AnyValue


class Ready(dict[str, "AnyValue"]):
    """A promise of whoever fills it: plain values under plain keys, and nobody touches it once a span has it.

    The lean span takes it as its own, without a copy and without a check; for any other provider it is a mapping.
    """

    __slots__ = ()


class Quick(Protocol):
    """Begins a span of the recorder's without links, as `Tracer.start_span` would; `LeanTracer.quick` is one."""

    def __call__(self, name: str, context: "Context", kind: "SpanKind", attributes: Ready) -> "Span | None":
        """Return the span begun, None where something is set up that only `start_span` heeds."""
        ...


def never_quick(name: str, context: "Context", kind: "SpanKind", attributes: Ready) -> None:
    """Leave it to `start_span`: the tracer is not ours."""
