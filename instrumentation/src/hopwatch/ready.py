"""What hopwatch's own recorder and tracer agree on: attributes that need no looking at, and a quick way to begin."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext, SpanKind
    from opentelemetry.util.types import AnyValue

    from hopwatch.lean.span import LeanSpan
    from hopwatch.places import Prepared


class Ready(dict[str, "AnyValue"]):
    """A promise of whoever fills it: plain values under plain keys, and nobody touches it once a span has it.

    The lean span takes it as its own, without a copy and without a check; for any other provider it is a mapping.
    """

    __slots__ = ()


class Quick(Protocol):
    """Begins a span of the recorder's without links, as `Tracer.start_span` would; `LeanTracer.quick` is one."""

    def __call__(
        self,
        place: "Prepared",
        above: "SpanContext | None",
        kind: "SpanKind",
        attributes: "dict[str, AnyValue]",
    ) -> "LeanSpan | None":
        """Return the span begun below `above`, None where something is set up that only `start_span` heeds.

        It has the attributes of `place` and those given, which are plain and become its own.
        """
        ...


def never_quick(
    place: "Prepared", above: "SpanContext | None", kind: "SpanKind", attributes: "dict[str, AnyValue]"
) -> None:
    """Leave it to `start_span`: the tracer is not ours."""
