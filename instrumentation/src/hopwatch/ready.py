"""What hopwatch's own recorder and tracer agree on: attributes that need no looking at, and a quick way to begin."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import Getter, Setter
    from opentelemetry.trace import SpanContext, SpanKind
    from opentelemetry.util.types import AnyValue

    from hopwatch.conventions import SettleOutcome
    from hopwatch.hops import ProcessHop
    from hopwatch.lean.sent import LeanSend
    from hopwatch.lean.span import LeanSpan
    from hopwatch.places import Prepared


class Ready(dict[str, "AnyValue"]):
    """A promise of whoever fills it: plain values under plain keys, and nobody touches it once a span has it.

    The lean span takes it as its own, without a copy and without a check; for any other provider it is a mapping.
    """

    __slots__ = ()


class Quick(Protocol):
    """Begins a call of the recorder's, as `Tracer.start_span` would; `LeanTracer.quick` is one."""

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


class QuickReceive(Protocol):
    """Begins what was sent to us, as `receive` and `Tracer.start_span` would; `LeanTracer.quick_receive` is one."""

    def __call__(
        self,
        place: "Prepared",
        kind: "SpanKind",
        carrier: Any,
        getter: "Getter[Any]",
        own: "dict[str, AnyValue]",
    ) -> "tuple[LeanSpan, Context] | None":
        """Return a span begun below the sender in `carrier`, and the context of what is done for the message.

        None where more came with it than ids, or something is set up that only `start_span` heeds. `own` is what is
        said of it besides what `place` says; its ids are added.
        """
        ...


class QuickProcess(Protocol):
    """Begins an attempt at a message; `LeanTracer.quick_process` is one."""

    def __call__(
        self,
        place: "Prepared",
        carrier: Any,
        getter: "Getter[Any]",
        own: "dict[str, AnyValue]",
        settled: "SettleOutcome | None",
        here: "Context | None",
    ) -> "ProcessHop | None":
        """Return the attempt begun below the sender in `carrier`, likewise None.

        It is among the reporter's hops in progress, and current where `here`, the context from before, is given.
        """
        ...


class QuickSend(Protocol):
    """Begins a send of the recorder's; `LeanTracer.quick_send` is one."""

    def __call__(
        self,
        place: "Prepared",
        context: "Context",
        own: "dict[str, AnyValue]",
        message_id: str,
        carrier: Any,
        setter: "Setter[Any]",
    ) -> "LeanSend | None":
        """Return the send begun in `context`, its ids in `carrier`, likewise None: then nothing is in there."""
        ...


def never_quick(
    place: "Prepared", above: "SpanContext | None", kind: "SpanKind", attributes: "dict[str, AnyValue]"
) -> None:
    """Leave it to `start_span`: the tracer is not ours."""


def never_quick_receive(
    place: "Prepared", kind: "SpanKind", carrier: Any, getter: "Getter[Any]", own: "dict[str, AnyValue]"
) -> None:
    """Likewise."""


def never_quick_process(
    place: "Prepared",
    carrier: Any,
    getter: "Getter[Any]",
    own: "dict[str, AnyValue]",
    settled: "SettleOutcome | None",
    here: "Context | None",
) -> None:
    """Likewise."""


def never_quick_send(
    place: "Prepared",
    context: "Context",
    own: "dict[str, AnyValue]",
    message_id: str,
    carrier: Any,
    setter: "Setter[Any]",
) -> None:
    """Likewise."""
