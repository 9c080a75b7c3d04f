"""The generic hop recorder: all span work of all transports. A transport only says where and what."""

from collections.abc import Sequence
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, default_getter, default_setter
from opentelemetry.trace import INVALID_SPAN, Link, SpanKind, Tracer
from opentelemetry.util.types import AttributeValue

from hopwatch.context import INCOMING_KEY, incoming_message_id, with_span
from hopwatch.conventions import (
    ALIAS,
    ATTEMPT,
    MESSAGE_ID,
    REPORT,
    SETTLE_OUTCOME,
    SKIPPED_UNTIL,
    Operation,
    PublishOutcome,
    Report,
    SettleOutcome,
    System,
)
from hopwatch.faults import swallowed
from hopwatch.hops import ProcessHop, SendHop
from hopwatch.ids import new_message_id
from hopwatch.optin import OptIn
from hopwatch.places import (
    Attributes,
    Destination,
    KafkaPosition,
    Position,
    Preparations,
    StreamPosition,
)
from hopwatch.propagation import inject
from hopwatch.reports import Subscription, reporter
from hopwatch.tags import belong

__all__ = [
    "Attributes",
    "Destination",
    "KafkaPosition",
    "Position",
    "ProcessHop",
    "Recorder",
    "SendHop",
    "StreamPosition",
]


class Recorder:
    """Starts the hops of one transport.

    `tracer` comes from the OpenTelemetry API, so that spans go wherever the application sends its own.
    """

    def __init__(self, system: System, tracer: Tracer) -> None:
        self._system = system
        self._tracer = tracer
        self._places = Preparations(system)
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
        message_id: str | None = None,
        context: Context | None = None,
    ) -> SendHop:
        """Begin a send: mint a message id and inject it and the trace context into `carrier`, replacing.

        `name` is the client's own word for the operation (publish, send, request). `message_id` is given where both
        ends know it without being told, `context` where the current one is not what the message belongs to.
        """
        message_id = message_id or new_message_id()
        try:
            context = otel_context.get_current() if context is None else context
            place = self._places.of(name, Operation.SEND, destination)
            described = place.attributes.copy()
            if attributes:
                described.update(attributes)
            if context:
                belong(described, context)
            described[MESSAGE_ID] = message_id
            if aliases:
                described[ALIAS] = tuple(aliases)
            span = self._tracer.start_span(place.span_name, context, SpanKind.PRODUCER, described, links)
            inject(carrier, setter, span, context, message_id)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("send", fault)
            span = INVALID_SPAN
        return SendHop(span, message_id)

    def send_outcome(
        self,
        name: str,
        destination: Destination,
        *,
        carrier: Any,
        getter: Getter[Any],
        outcome: PublishOutcome,
        reason: str,
    ) -> None:
        """Add what became known of a message after its send had ended, as a child of the send with its id."""
        try:
            context = propagate.get_global_textmap().extract(carrier, Context(), getter)
            message_id = incoming_message_id(context)
            if message_id is None:
                return
            place = self._places.of(name, Operation.SEND, destination)
            described = {**place.attributes, MESSAGE_ID: message_id}
            belong(described, context)
            span = self._tracer.start_span(place.span_name, context, SpanKind.PRODUCER, described)
            SendHop(span, message_id).end(outcome, reason=reason)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("send", fault)

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
            context = propagate.get_global_textmap().extract(carrier, context, getter)
            place = self._places.of(name, Operation.PROCESS, destination, receiver)
            described = place.attributes.copy()
            if attributes:
                described.update(attributes)
            belong(described, context)
            described[ATTEMPT] = attempt
            message_id = context.get(INCOMING_KEY)
            if message_id is not None:
                described[MESSAGE_ID] = message_id  # type: ignore[assignment]  # only we write it: a text
            span = self._tracer.start_span(place.span_name, context, SpanKind.CONSUMER, described)
            context = with_span(span, context)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("process", fault)
            span = INVALID_SPAN
        hop = ProcessHop(self._tracer, span, context, described)
        if attach:
            hop.attach()
        if span.is_recording():
            reporter.opened(hop)
        return hop

    def commit(self, destination: Destination, *, receiver: str, partition: int, offset: int) -> None:
        """Record that a consumer group's committed offset (the next to read) moved; context: the current one."""
        try:
            place = self._places.of("commit", Operation.SETTLE, destination, receiver)
            described = {
                **place.attributes,
                **KafkaPosition(partition, offset).attributes(),
                SETTLE_OUTCOME: SettleOutcome.COMMIT.value,
            }
            self._tracer.start_span(place.span_name, Context(), SpanKind.CLIENT, described).end()
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("commit", fault)

    def skipped(
        self, destination: Destination, *, receiver: str, partition: int, first: int, until: int
    ) -> None:
        """Report that a receiver's position was moved over messages it had not read."""
        try:
            place = self._places.of(Report.SKIP.value, Operation.SETTLE, destination, receiver)
            described = {
                **place.attributes,
                **KafkaPosition(partition, first).attributes(),
                SKIPPED_UNTIL: until,
                REPORT: Report.SKIP.value,
            }
            self._tracer.start_span(place.span_name, Context(), SpanKind.INTERNAL, described).end()
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
