"""The generic hop recorder: all span work of all transports. A transport only says where and what."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, default_getter, default_setter
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from hopwatch.context import flow_id, incoming_message_id, with_outgoing
from hopwatch.conventions import (
    ALIAS,
    ATTEMPT,
    DESTINATION,
    ERROR_TYPE,
    FLOW_ID,
    KAFKA_OFFSET,
    MESSAGE_ID,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_DESTINATION_PARTITION_ID,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
    PUBLISH_OUTCOME,
    REASON,
    RECEIVER,
    REPORT,
    SEQUENCE,
    SETTLE_OUTCOME,
    SKIPPED_UNTIL,
    STREAM,
    Operation,
    PublishOutcome,
    Report,
    SettleOutcome,
    System,
)
from hopwatch.faults import swallowed
from hopwatch.ids import new_message_id
from hopwatch.optin import OptIn
from hopwatch.reports import OpenHop, Subscription, reporter
from hopwatch.tags import key_attributes

Attributes = Mapping[str, AttributeValue]

MAX_REASON_LENGTH = 256
"""Characters of a broker's or exception's words that are kept as a reason."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a message goes or came from.

    `name` follows the messaging conventions (`messaging.destination.name`); `address` is spelled the same by
    sender and receiver (`hopwatch.destination`); `attributes` are the system's own.
    """

    name: str
    address: str
    attributes: Attributes = field(default_factory=dict)


class Position(Protocol):
    """Where a message lies in its broker, as span attributes."""

    def attributes(self) -> Attributes:
        """Return the attributes that name the position."""
        ...


@dataclass(frozen=True, slots=True)
class KafkaPosition:
    """Partition and offset of a record within its topic."""

    partition: int
    offset: int

    def attributes(self) -> Attributes:
        """Return partition id and offset as the conventions spell them."""
        return {MESSAGING_DESTINATION_PARTITION_ID: str(self.partition), KAFKA_OFFSET: self.offset}


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """JetStream stream and sequence of a message."""

    stream: str
    sequence: int

    def attributes(self) -> Attributes:
        """Return stream and sequence; no convention exists for them."""
        return {STREAM: self.stream, SEQUENCE: self.sequence}


class SendHop:
    """The sending half of a hop, from the call to the broker's answer."""

    __slots__ = ("_ended", "_span", "message_id")

    def __init__(self, span: Span, message_id: str) -> None:
        self._span = span
        self._ended = False
        self.message_id = message_id

    def set(self, attributes: Attributes) -> None:
        """Add what became known only during the send."""
        self._span.set_attributes(attributes)

    def address(self, name: str, destination: Destination) -> None:
        """Say where the message goes, where that was not known when the send began."""
        try:
            self._span.update_name(f"{name} {destination.name}")
            self._span.set_attributes(
                {
                    MESSAGING_DESTINATION_NAME: destination.name,
                    DESTINATION: destination.address,
                    **destination.attributes,
                }
            )
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
            span = self._span
            span.set_attribute(PUBLISH_OUTCOME, outcome)
            if position is not None:
                span.set_attributes(position.attributes())
            if reason or error is not None:
                span.set_attribute(REASON, (reason or _words(error))[:MAX_REASON_LENGTH])
            if error is not None or outcome in _BAD_OUTCOMES:
                _fail(span, error, reason or outcome)
            span.end()
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("send", fault)


class ProcessHop:
    """One attempt of a receiver: its span is current from the hand-over to `end`."""

    __slots__ = ("_attributes", "_before", "_context", "_ended", "_failed", "_outcome", "_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span, context: Context, attributes: Attributes) -> None:
        self._tracer = tracer
        self._span = span
        self._context = context
        self._attributes = attributes
        self._outcome: SettleOutcome | None = None
        self._ended = False
        self._failed = False
        self._before: Context | None = None

    @property
    def ended(self) -> bool:
        """Whether `end` has been called."""
        return self._ended

    @property
    def outcome(self) -> SettleOutcome | None:
        """How the attempt was settled so far, None if it was not."""
        return self._outcome

    @property
    def context(self) -> Context:
        """The context of what is done for this message: its span, its flow, its business keys."""
        return self._context

    def attach(self) -> None:
        """Make this hop the current one, if it is not; nested hops and sends belong to its flow."""
        if otel_context.get_current() is self._context:
            return
        self._before = otel_context.get_current()
        otel_context.attach(self._context)

    def detach(self) -> None:
        """Make the context from before `attach` current again, if this hop still is.

        No token is kept: hops of iterators and callbacks often end in another task than they began in, where
        resetting by token is an error. Elsewhere the hop's context dies with its task.
        """
        if self._before is not None and otel_context.get_current() is self._context:
            otel_context.attach(self._before)
        self._before = None

    def settled(self, outcome: SettleOutcome, reason: str = "") -> None:
        """Note how the receiver settled the message; after `end` it becomes a settle span of its own."""
        if self._outcome is not None and self._outcome is not SettleOutcome.NONE:
            return
        self._outcome = outcome
        try:
            if self._ended:
                self._settle_late(outcome, reason)
                return
            self._span.set_attribute(SETTLE_OUTCOME, outcome)
            if reason:
                self._span.set_attribute(REASON, reason[:MAX_REASON_LENGTH])
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("settle", fault)

    def failed(self, error: BaseException) -> None:
        """Note that the handler raised, where that is known before the attempt ends; only the first counts."""
        if self._failed or self._ended:
            return
        self._failed = True
        try:
            _fail(self._span, error, _words(error))
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("process", fault)

    def end(self, error: BaseException | None = None, *, keep_current: bool = False) -> None:
        """End the attempt and detach; only the first call counts.

        With `keep_current` the hop stays the current one until `detach`: a message settled in mid-loop, whose
        handler goes on sending.
        """
        if self._ended:
            return
        self._ended = True
        try:
            reporter.closed(id(self))
            if not keep_current:
                self.detach()
            if self._outcome is None:
                self._outcome = SettleOutcome.NONE
                self._span.set_attribute(SETTLE_OUTCOME, SettleOutcome.NONE)
            if error is not None and not self._failed:
                _fail(self._span, error, _words(error))
            self._span.end()
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("process", fault)

    def _settle_late(self, outcome: SettleOutcome, reason: str) -> None:
        attributes = {
            **self._attributes,
            MESSAGING_OPERATION_NAME: outcome.value,
            MESSAGING_OPERATION_TYPE: Operation.SETTLE,
            SETTLE_OUTCOME: outcome,
        }
        if reason:
            attributes[REASON] = reason[:MAX_REASON_LENGTH]
        name = f"{outcome} {self._attributes.get(MESSAGING_DESTINATION_NAME, '')}"
        self._tracer.start_span(
            name, context=self._context, kind=SpanKind.CLIENT, attributes=attributes
        ).end()


class Recorder:
    """Starts the hops of one transport.

    `tracer` comes from the OpenTelemetry API, so that spans go wherever the application sends its own.
    """

    def __init__(self, system: System, tracer: Tracer) -> None:
        self._system = system
        self._tracer = tracer
        self.opted = OptIn.from_environment()

    def send(
        self,
        name: str,
        destination: Destination,
        *,
        carrier: Any,
        setter: Setter[Any] = default_setter,
        attributes: Attributes | None = None,
        aliases: Sequence[str] = (),
        links: Sequence[Link] = (),
    ) -> SendHop:
        """Begin a send: mint a message id and inject it and the trace context into `carrier`, replacing.

        `name` is the client's own word for the operation (publish, send, request).
        """
        message_id = new_message_id()
        try:
            context = otel_context.get_current()
            described = self._describe(name, Operation.SEND, destination, context, attributes)
            described[MESSAGE_ID] = message_id
            if aliases:
                described[ALIAS] = list(aliases)
            span = self._tracer.start_span(
                f"{name} {destination.name}",
                context=context,
                kind=SpanKind.PRODUCER,
                attributes=described,
                links=links,
            )
            sending = with_outgoing(message_id, trace.set_span_in_context(span, context))
            propagate.inject(carrier, sending, setter)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("send", fault)
            span = INVALID_SPAN
        return SendHop(span, message_id)

    def process(
        self,
        name: str,
        destination: Destination,
        *,
        receiver: str,
        carrier: Any,
        getter: Getter[Any] = default_getter,
        attempt: int = 1,
        attributes: Attributes | None = None,
        attach: bool = True,
    ) -> ProcessHop:
        """Begin an attempt: a consumer span whose parent is the sender's, made current unless `attach` is False."""
        context = Context()  # what is current here belongs to whoever subscribed, not to the message
        described: dict[str, AttributeValue] = {}
        try:
            context = propagate.extract(carrier, context, getter)
            described = self._describe(name, Operation.PROCESS, destination, context, attributes)
            described[RECEIVER] = receiver
            described[ATTEMPT] = attempt
            message_id = incoming_message_id(context)
            if message_id is not None:
                described[MESSAGE_ID] = message_id
            span = self._tracer.start_span(
                f"{name} {destination.name}", context=context, kind=SpanKind.CONSUMER, attributes=described
            )
            context = trace.set_span_in_context(span, context)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("process", fault)
            span = INVALID_SPAN
        hop = ProcessHop(self._tracer, span, context, described)
        if attach:
            hop.attach()
        if span.is_recording():
            reporter.opened(
                id(hop), OpenHop(self._tracer, time.monotonic(), context, destination.name, lambda: described)
            )
        return hop

    def commit(self, destination: Destination, *, receiver: str, partition: int, offset: int) -> None:
        """Record that a consumer group's committed offset (the next to read) moved; context: the current one."""
        try:
            described = self._describe("commit", Operation.SETTLE, destination, None, None)
            described |= KafkaPosition(partition, offset).attributes()
            described |= {RECEIVER: receiver, SETTLE_OUTCOME: SettleOutcome.COMMIT}
            self._tracer.start_span(
                f"commit {destination.name}", context=Context(), kind=SpanKind.CLIENT, attributes=described
            ).end()
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("commit", fault)

    def skipped(
        self, destination: Destination, *, receiver: str, partition: int, first: int, until: int
    ) -> None:
        """Report that a receiver's position was moved over messages it had not read."""
        try:
            described = self._describe(Report.SKIP, Operation.SETTLE, destination, None, None)
            described |= KafkaPosition(partition, first).attributes()
            described |= {RECEIVER: receiver, SKIPPED_UNTIL: until, REPORT: Report.SKIP}
            self._tracer.start_span(
                f"{Report.SKIP} {destination.name}",
                context=Context(),
                kind=SpanKind.INTERNAL,
                attributes=described,
            ).end()
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("skip", fault)

    def subscribed(self, pattern: str, *, receiver: str, durable: bool) -> None:
        """Report that `receiver` is entitled to what matches `pattern`, in the broker's own wildcards."""
        try:
            reporter.subscribed(Subscription(self._tracer, self._system, pattern, receiver, durable))
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("subscribe", fault)

    def unsubscribed(self, pattern: str, *, receiver: str) -> None:
        """Report that `receiver` is no longer entitled to `pattern`."""
        try:
            reporter.unsubscribed(self._system, pattern, receiver)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("unsubscribe", fault)

    def _describe(
        self,
        name: str,
        operation: Operation,
        destination: Destination,
        context: Context | None,
        attributes: Attributes | None,
    ) -> dict[str, AttributeValue]:
        described: dict[str, AttributeValue] = {
            MESSAGING_SYSTEM: self._system,
            MESSAGING_OPERATION_NAME: name,
            MESSAGING_OPERATION_TYPE: operation,
            MESSAGING_DESTINATION_NAME: destination.name,
            DESTINATION: destination.address,
            **destination.attributes,
            **(attributes or {}),
        }
        if operation is not Operation.SETTLE:
            described.update(key_attributes(context))
            described.update(flow_attributes(context))
        return described


def flow_attributes(context: Context | None) -> Attributes:
    """Return the flow id as an attribute where it differs from the trace id of the current span."""
    flow = flow_id(context)
    span_context = trace.get_current_span(context).get_span_context()
    if flow is None or (span_context.is_valid and flow == f"{span_context.trace_id:032x}"):
        return {}
    return {FLOW_ID: flow}


_BAD_OUTCOMES = frozenset({PublishOutcome.RETURNED, PublishOutcome.REFUSED, PublishOutcome.UNCONFIRMED})


def _words(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}" if error is not None else ""


def _fail(span: Span, error: BaseException | None, reason: str) -> None:
    span.set_attribute(ERROR_TYPE, type(error).__qualname__ if error is not None else reason[:64])
    if error is not None:
        span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, reason[:MAX_REASON_LENGTH]))
