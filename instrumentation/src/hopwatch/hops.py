"""The two halves of a hop, as its transport holds them: what became of a send, how an attempt ended."""

from time import monotonic, time_ns
from typing import Final, Protocol

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from hopwatch.context import attach, get_current
from hopwatch.conventions import (
    ERROR_TYPE,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    NOTHING_DUE,
    PUBLISH_OUTCOME,
    REASON,
    REPORT,
    SETTLE_OUTCOME,
    Ending,
    Operation,
    PublishOutcome,
    Report,
    SettleOutcome,
)
from hopwatch.faults import swallowed
from hopwatch.meters import Done
from hopwatch.native import native
from hopwatch.places import Attributes, Destination, Position, Prepared, naming
from hopwatch.ready import Ready
from hopwatch.reports import reporter
from hopwatch.shapes import ShapedSpan

MAX_REASON_LENGTH: Final = 256
"""Characters of a broker's or exception's words that are kept as a reason."""

BAD_OUTCOMES: Final = frozenset(
    outcome.value for outcome in (PublishOutcome.RETURNED, PublishOutcome.REFUSED, PublishOutcome.UNCONFIRMED)
)
"""Outcomes that make a send an error."""

_ENDINGS: Final = frozenset({SETTLE_OUTCOME, REASON, ERROR_TYPE})
"""What a span says of how an attempt ended: none of it belongs to what is told of the attempt elsewhere."""


HopSpan = Span | ShapedSpan


class SendHop(Protocol):
    """The sending half of a hop, from the call to the broker's answer."""

    message_id: str

    def set(self, attributes: Attributes) -> None:
        """Add what became known only during the send."""

    def address(self, name: str, destination: Destination) -> None:
        """Say where the message goes, where that was not known when the send began."""

    def end(
        self,
        outcome: PublishOutcome,
        *,
        reason: str = "",
        position: Position | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Say what became of the send; only the first call counts."""


class SpanSend:
    """A send that is a span of whatever provider is in force. See `SendHop`."""

    __slots__ = ("_done", "_ended", "_span", "message_id")

    def __init__(self, span: HopSpan, message_id: str, done: Done | None = None) -> None:
        self._span = span
        self._done = done
        self._ended = False
        self.message_id = message_id

    def set(self, attributes: Attributes) -> None:
        """Add what became known only during the send."""
        self._span.set_attributes(attributes)

    def address(self, name: str, destination: Destination) -> None:
        """Say where the message goes, where that was not known when the send began."""
        try:
            self._span.update_name(f"{name} {destination.name}")
            self._span.set_attributes(naming(destination))
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("send", fault)

    def end(
        self,
        outcome: PublishOutcome,
        *,
        reason: str = "",
        position: Position | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Say what became of the send; only the first call counts."""
        if self._ended:
            return
        self._ended = True
        try:
            last = position.attributes() if position is not None else {}
            said = last[PUBLISH_OUTCOME] = outcome._value_
            self._span.set_attributes(Ready(last))
            if reason or error is not None:
                self._span.set_attribute(REASON, (reason or words(error))[:MAX_REASON_LENGTH])
            bad = error is not None or said in BAD_OUTCOMES
            if bad:
                fail(self._span, error, reason or said)
            self._span.end()
            if self._done is not None:
                self._done((_type_of(error) or said) if bad else None)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("send", fault)


class ProcessHop:
    """One attempt of a receiver: its span is current from the hand-over to `end`."""

    __slots__ = (
        "_attributes",
        "_done",
        "_error_type",
        "_place",
        "_span",
        "_tracer",
        "before",
        "context",
        "ended",
        "outcome",
        "started",
    )

    before: Context | None
    """What is current again once this hop no longer is; None: it is not the current one."""

    context: Context
    """The context of what is done for this message: its span, its flow, its business keys."""

    ended: bool
    """Whether `end` has been called."""

    outcome: SettleOutcome | None
    """How the attempt was settled so far, None if it was not."""

    started: float
    """When it began, on the monotonic clock."""

    def __init__(
        self,
        tracer: Tracer,
        span: HopSpan,
        context: Context,
        attributes: Attributes,
        settled: SettleOutcome | None = None,
        done: Done | None = None,
        place: Prepared | None = None,
    ) -> None:
        self._tracer = tracer
        self._span = span
        self.context = context
        self._attributes = attributes
        self._place = place
        self.outcome = settled
        self.ended = False
        self._done = done
        self._error_type: str | None = None
        self.before = None
        self.started = monotonic()

    def attach(self, before: Context | None = None) -> None:
        """Make this hop the current one, if it is not; nested hops and sends belong to its flow.

        `before` is the context that is current, where the caller knows it.
        """
        if before is None:
            before = get_current()
        if before is not self.context:
            self.before = before
            attach(self.context)

    def detach(self) -> None:
        """Make the context from before `attach` current again, if this hop still is.

        No token is kept: hops of iterators and callbacks often end in another task than they began in, where
        resetting by token is an error. Elsewhere the hop's context dies with its task.
        """
        before = self.before
        if before is not None:
            self.before = None
            if get_current() is self.context:
                attach(before)

    def settled(self, outcome: SettleOutcome, reason: str = "") -> None:
        """Note how the receiver settled the message; after `end` it becomes a settle span of its own."""
        if self.outcome is not None and self.outcome is not SettleOutcome.NONE:
            return
        self.outcome = outcome
        try:
            if self.ended:
                self._tell_late(outcome, reason)
                return
            if self._place is None:
                self._span.set_attribute(SETTLE_OUTCOME, outcome._value_)
            else:
                self._span._own[SETTLE_OUTCOME] = outcome._value_  # type: ignore[union-attr]  # a lean span, which has it
            if reason:
                self._span.set_attribute(REASON, reason[:MAX_REASON_LENGTH])
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("settle", fault)

    def failed(self, error: BaseException) -> None:
        """Note that the handler raised, where that is known before the attempt ends; only the first counts."""
        if self._error_type is not None or self.ended:
            return
        self._error_type = _type_of(error)
        try:
            fail(self._span, error, words(error))
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("process", fault)

    def end(self, error: BaseException | None = None, *, keep_current: bool = False) -> None:
        """End the attempt and detach; only the first call counts.

        With `keep_current` the hop stays the current one until `detach`: a message settled in mid-loop, whose
        handler goes on sending.
        """
        if self.ended:
            return
        try:
            if (
                native is not None
                and error is None
                and not keep_current
                and native.end(self, reporter.in_progress, time_ns)
            ):
                return
            self.ended = True
            reporter.in_progress.pop(id(self), None)
            before = self.before
            if before is not None and not keep_current:  # `detach`, without the call
                self.before = None
                if get_current() is self.context:
                    attach(before)
            if self.outcome is None:
                self.outcome = SettleOutcome.NONE  # its span has said so from the beginning
            if error is not None and self._error_type is None:
                self._error_type = _type_of(error)
                fail(self._span, error, words(error))
            self._span.end()
            if self._done is not None:
                self._done(self._error_type)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("process", fault)

    def let_go(self, ending: Ending, *, keep_current: bool = False) -> None:
        """End an attempt without claiming that its processing ended, unless it was settled: say why it ends instead."""
        if self.ended:
            return
        try:
            if self.outcome is SettleOutcome.AUTO:
                self.outcome = SettleOutcome.NONE
                self._span.set_attribute(SETTLE_OUTCOME, SettleOutcome.NONE.value)
                self._span.set_attribute(REASON, f"{ending}{NOTHING_DUE}")
            elif self.outcome is None or self.outcome is SettleOutcome.NONE:
                self._span.set_attribute(REASON, ending.value)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("process", fault)
        self.end(keep_current=keep_current)

    def worked(self, error: BaseException | None, *, auto: bool) -> None:
        """Tell how the processing of a message ended that had been let go of; `auto` where no acknowledgement is due."""
        if self.outcome is not None and self.outcome is not SettleOutcome.NONE:
            return
        try:
            if error is None and auto:
                self.outcome = SettleOutcome.AUTO
            self._tell_late(SettleOutcome.AUTO if auto else SettleOutcome.NONE, Ending.LATE.value, error)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("process", fault)

    def report(self) -> None:
        """Tell of an attempt still in progress: a zero-length child span that repeats its attributes."""
        said = self._identity()
        self._tracer.start_span(
            f"{Report.OPEN} {said.get(MESSAGING_DESTINATION_NAME, '')}",
            context=self.context,
            kind=SpanKind.INTERNAL,
            attributes={**said, REPORT: Report.OPEN.value},
        ).end()

    def _tell_late(self, outcome: SettleOutcome, reason: str, error: BaseException | None = None) -> None:
        """Tell more of an attempt that has ended, by a short span beneath it."""
        attributes: dict[str, AttributeValue] = {
            **self._identity(),
            MESSAGING_OPERATION_NAME: outcome.value,
            MESSAGING_OPERATION_TYPE: Operation.SETTLE.value,
            SETTLE_OUTCOME: outcome.value,
        }
        if reason:
            attributes[REASON] = reason[:MAX_REASON_LENGTH]
        name = f"{outcome} {attributes.get(MESSAGING_DESTINATION_NAME, '')}"
        span = self._tracer.start_span(
            name, context=self.context, kind=SpanKind.CLIENT, attributes=attributes
        )
        if error is not None:
            fail(span, error, words(error))
        span.end()

    def _identity(self) -> dict[str, AttributeValue]:
        """Return whose attempt this is; a lean span keeps its own attributes in the same dict."""
        said = {name: value for name, value in list(self._attributes.items()) if name not in _ENDINGS}
        return said if self._place is None else {**self._place.attributes, **said}


def words(error: BaseException | None) -> str:
    """Return an exception in words."""
    return f"{type(error).__name__}: {error}" if error is not None else ""


def fail(span: HopSpan, error: BaseException | None, reason: str) -> None:
    """Make a span an error."""
    span.set_attribute(ERROR_TYPE, type(error).__qualname__ if error is not None else reason[:64])
    if error is not None:
        span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, reason[:MAX_REASON_LENGTH]))


def _type_of(error: BaseException | None) -> str | None:
    return type(error).__qualname__ if error is not None else None
