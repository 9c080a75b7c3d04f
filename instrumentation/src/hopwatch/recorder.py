"""The generic hop recorder: all span work of all transports. A transport only says where and what."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, default_getter, default_setter
from opentelemetry.trace import INVALID_SPAN, Link, NoOpTracer, SpanKind, Tracer
from opentelemetry.util.types import AttributeValue

from hopwatch.context import (
    BAGGAGE_KEY,
    SPAN_KEY,
    SUPPRESSED_KEY,
    get_current,
)
from hopwatch.context import attach as make_current
from hopwatch.conventions import (
    ALIAS,
    ANYBODY,
    ATTEMPT,
    DEAD_LETTER_RECEIVER,
    DESTINATION,
    FLOW_ID,
    LEDGER,
    MESSAGE_ID,
    MESSAGING_SYSTEM,
    PUBLISH_OUTCOME,
    REASON,
    REPORT,
    SENT_AGAIN,
    SETTLE_OUTCOME,
    SKIPPED_UNTIL,
    Ledger,
    Operation,
    PublishOutcome,
    Report,
    SettleOutcome,
    System,
)
from hopwatch.faults import swallowed
from hopwatch.hooks import Draft, Hook
from hopwatch.hops import ProcessHop, SendHop, SpanSend
from hopwatch.ids import new_message_id
from hopwatch.meters import Meters
from hopwatch.optin import OptIn
from hopwatch.places import (
    Attributes,
    Destination,
    KafkaPosition,
    Position,
    Preparations,
    Prepared,
    StreamPosition,
    plain,
)
from hopwatch.propagation import inject, pass_on, receive
from hopwatch.ready import QuickProcess, QuickSend, Ready, never_quick_process, never_quick_send
from hopwatch.reports import Holding, Subscription, reporter
from hopwatch.retries import Retries
from hopwatch.sampling import ledger_told
from hopwatch.shapes import ShapedSpan, shape_of
from hopwatch.tags import belong, key_attributes

__all__ = [
    "Attributes",
    "Destination",
    "Holding",
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

    def __init__(self, system: System | str, tracer: Tracer, hook: Hook | None = None) -> None:
        self._system = str(system)
        for_ledger = getattr(tracer, "for_ledger", None)
        self._tracer = tracer = tracer if for_ledger is None else for_ledger()
        self._quick_process: QuickProcess = getattr(tracer, "quick_process", never_quick_process)
        self._quick_send: QuickSend = getattr(tracer, "quick_send", never_quick_send)
        self._hook = hook
        self._shape = shape_of(str(system), hook)
        self._meters = Meters(str(system))
        self._measured = self._meters.behind
        self._ordinary = hook is None and self._shape is None
        self._sends = Preparations(system, Operation.SEND)
        self._attempts = Preparations(system, Operation.PROCESS)
        self._settlements = Preparations(system, Operation.SETTLE)
        self._retries = Retries()
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
            return SpanSend(INVALID_SPAN, "")
        message_id = message_id or new_message_id()
        done = None
        try:
            place = self._sends.of(name, destination)
            around = context.get(SPAN_KEY) if context else None
            if getattr(around, "kind", None) is _PRODUCER:
                self._within(around, message_id, place.attributes)
            described: dict[str, AttributeValue] = {**attributes} if attributes else {}
            if aliases:
                described[ALIAS] = tuple(aliases)
            if context:
                belong(described, context)
            if self._ordinary and not links and self._measured._real_instrument is None:
                send = self._quick_send(place, context, described, message_id, carrier, setter)
                if send is not None:
                    return send
            described = Ready({**place.attributes, MESSAGE_ID: message_id, **plain(described)})
            if self._meters.on:
                done = self._meters.sending(described)
            span_name = self._named(Operation.SEND, place, described)
            if span_name is None:
                pass_on(carrier, setter, context)
                return SpanSend(INVALID_SPAN, "", done)
            if self._shape is not None:
                described = Ready(self._shape(described))
            span = self._tracer.start_span(span_name, context, _PRODUCER, described, links)
            inject(carrier, setter, span, context, message_id)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("send", fault)
            span = INVALID_SPAN
        return SpanSend(span if self._shape is None else ShapedSpan(span, self._shape), message_id, done)

    def unanswered(self, destination: Destination, payload: Any, message_id: str) -> None:
        """Remember a send that nobody answered: the application may try again."""
        try:
            self._retries.unanswered(destination.address, payload, message_id)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("send", fault)

    def sent_again(self, name: str, destination: Destination, payload: Any, message_id: str) -> None:
        """Tell of a send that nobody answered, if this is the same once more, under which id it was sent again."""
        if not self._retries or not message_id:
            return
        try:
            first = self._retries.first(destination.address, payload)
            if first is None:
                return
            place = self._sends.of(name, destination)
            described = {
                **place.attributes,
                MESSAGE_ID: first,
                PUBLISH_OUTCOME: PublishOutcome.UNCONFIRMED.value,
                REASON: f"{SENT_AGAIN}{message_id}",
            }
            self._tracer.start_span(place.span_name, get_current(), _PRODUCER, described).end()
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("send", fault)

    def _within(self, around: Any, message_id: str, place: Attributes) -> None:
        """Have a framework's own span around a send say that it is about the same message, not one of its own."""
        said = getattr(around, "attributes", None) or {}
        if said.get(MESSAGING_SYSTEM) == self._system and MESSAGE_ID not in said and around.is_recording():
            around.set_attributes({MESSAGE_ID: message_id, DESTINATION: place[DESTINATION]})

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
            place = self._sends.of(name, destination)
            described = {**place.attributes, MESSAGE_ID: message_id}
            belong(described, context)
            span = self._tracer.start_span(place.span_name, context, SpanKind.PRODUCER, described)
            SpanSend(span, message_id).end(outcome, reason=reason)
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
            return ProcessHop(_NO_TRACER, INVALID_SPAN, here, {})
        try:
            place = self._attempts.of(name, destination, receiver)
            said: dict[str, AttributeValue] = {
                ATTEMPT: attempt,
                SETTLE_OUTCOME: settled._value_ if settled is not None else _UNSETTLED,
            }
            if attributes:
                said.update(attributes)
            if (
                self._ordinary
                and DEAD_LETTER_RECEIVER not in said
                and self._measured._real_instrument is None
            ):
                quick = self._quick_process(place, carrier, getter, said, settled, here if attach else None)
                if quick is not None:
                    if reporter.thread is None:
                        reporter.start()
                    return quick
            hop = self._process_thoroughly(place, carrier, getter, said, settled)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("process", fault)
            hop = ProcessHop(_NO_TRACER, INVALID_SPAN, Context(), {}, settled)
        if attach:
            hop.before = here
            make_current(hop.context)
        return hop

    def _process_thoroughly(
        self,
        place: Prepared,
        carrier: Any,
        getter: Getter[Any],
        said: dict[str, AttributeValue],
        settled: SettleOutcome | None,
    ) -> ProcessHop:
        """Begin an attempt whatever came with it, on any provider."""
        context, message_id, flow = receive(carrier, getter)
        described = Ready({**place.attributes, **plain(said)})
        if message_id is not None:
            described[MESSAGE_ID] = message_id
        if flow is not None:
            described[FLOW_ID] = flow
        if BAGGAGE_KEY in context:
            described.update(key_attributes(context))
        done = self._meters.processing(described) if self._meters.on else None
        span_name = self._named(Operation.PROCESS, place, described)
        if span_name is None:  # it leaves no trace of its own, but the sender's goes on in it
            return ProcessHop(_NO_TRACER, INVALID_SPAN, context, {}, None, done)
        if self._shape is not None:
            described = Ready(self._shape(described))
        links = _dead_letter_link(context, described) if DEAD_LETTER_RECEIVER in described else ()
        span = self._tracer.start_span(span_name, context, _CONSUMER, described, links)
        context = Context({**context, SPAN_KEY: span})
        shown = span if self._shape is None else ShapedSpan(span, self._shape)
        hop = ProcessHop(self._tracer, shown, context, described, settled, done)
        if span.is_recording():
            reporter.opened(hop)
        return hop

    def commit(self, destination: Destination, *, receiver: str, partition: int, offset: int) -> None:
        """Record that a consumer group's committed offset (the next to read) moved."""
        if get_current().get(SUPPRESSED_KEY):
            return
        try:
            place = self._settlements.of("commit", destination, receiver)
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
        """Report that a receiver's position was moved: over messages it had not read, or back to earlier ones."""
        try:
            place = self._settlements.of(Report.SKIP.value, destination, receiver)
            described = {
                **place.attributes,
                **KafkaPosition(partition, first).attributes(),
                SKIPPED_UNTIL: until,
                REPORT: Report.SKIP.value,
            }
            self._tracer.start_span(place.span_name, Context(), SpanKind.INTERNAL, described).end()
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("skip", fault)

    def subscribed(self, pattern: str, *, receiver: str, durable: bool, broker: str = "") -> None:
        """Report that `receiver` is entitled to what matches `pattern`, in the broker's own wildcards."""
        self.holds(Holding(pattern, receiver, durable, broker))

    def holds(self, holding: Holding) -> None:
        """Report the same of one of the broker's clients, where it knows as whom the broker lists it."""
        if get_current().get(SUPPRESSED_KEY):
            return
        try:
            reporter.subscribed(self._subscription(holding))
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("subscribe", fault)

    def untold(self) -> None:
        """Report that this process may receive messages and tells of none."""
        try:
            told = {LEDGER: Ledger.SAMPLED.value}
            holding = Holding("", ANYBODY, durable=False)
            reporter.subscribed(Subscription(self._tracer, self._system, holding, lambda: told))
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("subscribe", fault)

    def moved(self, before: Holding, now: Holding) -> None:
        """Report that who is subscribed is known by other names now, having connected or joined anew."""
        try:
            reporter.moved(self._subscription(before), self._subscription(now))
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("subscribe", fault)

    def left(self, holding: Holding) -> None:
        """Report that one client is subscribed no longer: what is durable is owed to its receiver all the same."""
        try:
            reporter.left(self._subscription(holding))
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("unsubscribe", fault)

    def unsubscribed(self, pattern: str, *, receiver: str, broker: str | None = None) -> None:
        """Report that `receiver` is no longer entitled to `pattern`: at one broker, or wherever it was."""
        try:
            reporter.unsubscribed(self._system, pattern, receiver, broker)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("unsubscribe", fault)

    def _subscription(self, holding: Holding) -> Subscription:
        return Subscription(self._tracer, self._system, holding, partial(ledger_told, self._tracer))

    def _named(self, operation: Operation, place: Prepared, described: Attributes) -> str | None:
        """Ask the team's hook what a hop is called; None where it is not to be recorded."""
        if self._hook is None:
            return place.span_name
        draft = Draft(operation.value, place.destination.address, place.span_name, described)
        return self._hook.named(draft)


_NO_TRACER: Final = NoOpTracer()
_UNSETTLED: Final = SettleOutcome.NONE.value
_PRODUCER: Final = SpanKind.PRODUCER
_CONSUMER: Final = SpanKind.CONSUMER


def _dead_letter_link(context: Context, described: Attributes) -> Sequence[Link]:
    """Link the attempt at a dead-lettered copy to the original, which has the same sender and the same id."""
    sender = trace.get_current_span(context).get_span_context()
    said = {name: described[name] for name in (MESSAGE_ID, DEAD_LETTER_RECEIVER) if name in described}
    return (Link(sender, said),) if sender.is_valid else ()
