"""The generic hop recorder: all span work of all transports. A transport only says where and what."""

from collections.abc import Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, default_getter, default_setter
from opentelemetry.trace import INVALID_SPAN, Link, SpanKind, Tracer

from hopwatch.context import BAGGAGE_KEY, SPAN_KEY, SUPPRESSED_KEY, get_current
from hopwatch.conventions import (
    ALIAS,
    ATTEMPT,
    FLOW_ID,
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
    plain,
)
from hopwatch.propagation import inject, receive
from hopwatch.ready import Ready
from hopwatch.reports import Subscription, reporter
from hopwatch.tags import belong, key_attributes

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

    `tracer` comes from the OpenTelemetry API, so that spans go wherever the application sends its own. Inside
    OpenTelemetry's `suppress_instrumentation()` nothing is recorded, reported or injected.
    """

    def __init__(self, system: System | str, tracer: Tracer) -> None:
        self._system = str(system)
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
        if context is None:
            context = get_current()
        if context and context.get(SUPPRESSED_KEY):
            return SendHop(INVALID_SPAN, "")
        message_id = message_id or new_message_id()
        try:
            place = self._places.of(name, Operation.SEND, destination)
            described = Ready(place.attributes)
            if attributes:
                described.update(plain(attributes))
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
            context, message_id, _ = receive(carrier, getter)
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
        settled: SettleOutcome | None = None,
    ) -> ProcessHop:
        """Begin an attempt: a consumer span whose parent is the sender's, made current unless `attach` is False.

        `settled` is how it is settled from the start, where the protocol asks for no acknowledgement.
        """
        here = get_current()
        if here and here.get(SUPPRESSED_KEY):
            return ProcessHop(self._tracer, INVALID_SPAN, here, {})
        context = Context()  # what is current here belongs to whoever subscribed, not to the message
        described = Ready()
        try:
            context, message_id, flow = receive(carrier, getter)
            place = self._places.of(name, Operation.PROCESS, destination, receiver)
            described = Ready(place.attributes)
            if attributes:
                described.update(plain(attributes))
            described[ATTEMPT] = attempt
            if settled is not None:
                described[SETTLE_OUTCOME] = settled.value
            if message_id is not None:
                described[MESSAGE_ID] = message_id
            if flow is not None:
                described[FLOW_ID] = flow
            if BAGGAGE_KEY in context:
                described.update(key_attributes(context))
            span = self._tracer.start_span(place.span_name, context, SpanKind.CONSUMER, described)
            context = Context({**context, SPAN_KEY: span})
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("process", fault)
            span = INVALID_SPAN
        hop = ProcessHop(self._tracer, span, context, described, settled)
        if attach:
            hop.attach()
        if span.is_recording():
            reporter.opened(hop)
        return hop

    def commit(self, destination: Destination, *, receiver: str, partition: int, offset: int) -> None:
        """Record that a consumer group's committed offset (the next to read) moved."""
        if get_current().get(SUPPRESSED_KEY):
            return
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
        if get_current().get(SUPPRESSED_KEY):
            return
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
