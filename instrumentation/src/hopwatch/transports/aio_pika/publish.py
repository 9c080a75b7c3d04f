"""Publishing: ids on a copy of the message, the outcome from the broker's answer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

from aio_pika.abc import AbstractMessage
from aio_pika.exchange import Exchange
from aiormq import spec
from aiormq.abc import DeliveredMessage
from opentelemetry.trace import Link
from opentelemetry.util.types import AttributeValue

from hopwatch.conventions import (
    DEATHS_HEADER,
    MESSAGE_ID_HEADER,
    MESSAGING_BODY_SIZE,
    MESSAGING_CONVERSATION_ID,
    REASON,
    PublishOutcome,
)
from hopwatch.faults import swallowed
from hopwatch.links import link_to_original
from hopwatch.recorder import Recorder, SendHop
from hopwatch.transports.aio_pika.places import (
    deaths,
    destination,
    lifetime,
    not_before,
    outcome_of_error,
    outcome_of_result,
    outgoing,
    own_message_id,
    total,
)
from hopwatch.transports.aio_pika.transaction import Transactions
from hopwatch.wrapping import (
    Args,
    Kwargs,
    Patches,
    argument,
    as_text,
    fresh_headers,
    guarded,
    header_getter,
)

T = TypeVar("T")


class Publishing:
    """The wrapper around `Exchange.publish`, which every way to publish goes through."""

    def __init__(self, recorder: Recorder, patches: Patches, transactions: Transactions) -> None:
        self._recorder = recorder
        self._patches = patches
        self._transactions = transactions

    def publish(self, original: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        """Record a publish with what the broker answered."""

        @wraps(original)
        async def publish(exchange: Exchange, *args: Any, **kwargs: Any) -> T:
            sending = self._begin(exchange, args, kwargs) if self._patches.active else None
            if sending is None:
                return await original(exchange, *args, **kwargs)
            hop, args, kwargs = sending
            try:
                result = await original(exchange, *args, **kwargs)
            except BaseException as error:
                self._failed(exchange, hop, args, kwargs, error)
                raise
            if type(result) is spec.Basic.Ack and not self._transactions.any:
                hop.end(PublishOutcome.CONFIRMED)
            else:
                self._end(exchange, hop, result, args[0] if args else kwargs["message"])
            return result

        return publish

    @guarded
    def _failed(
        self, exchange: Exchange, hop: SendHop, args: Args, kwargs: Kwargs, error: BaseException
    ) -> None:
        """End a publish that raised; where nobody answered it, the same may be published again."""
        outcome = outcome_of_error(error)
        hop.end(outcome, error=error)
        if outcome is PublishOutcome.UNCONFIRMED:
            channel: Any = exchange.channel
            message, routing_key = (
                argument(args, kwargs, 0, "message"),
                argument(args, kwargs, 1, "routing_key"),
            )
            where = destination(exchange.name, routing_key, channel._connection)
            self._recorder.unanswered(where, message.body, hop.message_id)

    async def returned(
        self, wrapped: Callable[..., Awaitable[T]], channel: Any, args: Args, kwargs: Kwargs
    ) -> T:
        """Record that a message came back which `publish`, without confirms, could only call sent.

        aiormq reads it and tells nobody.
        """
        read = getattr(channel, "_read_content", None)
        if read is None or channel.publisher_confirms:
            return await wrapped(*args, **kwargs)
        came_back: list[DeliveredMessage] = []

        async def reading(*args: Any, **kwargs: Any) -> DeliveredMessage:
            came_back.append(await read(*args, **kwargs))
            return came_back[0]

        channel._read_content = reading
        try:
            return await wrapped(*args, **kwargs)
        finally:
            del channel._read_content
            self._came_back(channel, came_back)

    def _end(self, exchange: Exchange, hop: SendHop, result: object, message: AbstractMessage) -> None:
        try:
            under_way = self._transactions.of(exchange.channel)
            if under_way is not None:
                under_way.publish(hop)
                return
            outcome, reason = outcome_of_result(result)
            hop.end(outcome, reason=_reason(message.headers, reason))
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("publish", fault)

    @guarded
    def _came_back(self, channel: Any, messages: list[DeliveredMessage]) -> None:
        for message in messages:
            self._told(channel, message)

    def _told(self, channel: Any, message: DeliveredMessage) -> None:
        headers = message.header.properties.headers or {}
        outcome, reason = outcome_of_result(message)
        reason = _reason(headers, reason)
        message_id = as_text(headers.get(MESSAGE_ID_HEADER))
        under_way = self._transactions.under(channel)
        for hop in under_way.published if under_way is not None else ():
            if hop.message_id == message_id:
                hop.end(outcome, reason=reason)
                return
        self._recorder.send_outcome(
            "return",
            destination(message.exchange or "", message.routing_key or "", channel.connection),
            carrier=headers,
            getter=header_getter,
            outcome=outcome,
            reason=reason,
        )

    def _begin(self, exchange: Exchange, args: Args, kwargs: Kwargs) -> tuple[SendHop, Args, Kwargs] | None:
        try:
            message: AbstractMessage = args[0] if args else kwargs["message"]
            routing_key = args[1] if len(args) > 1 else kwargs["routing_key"]
            channel: Any = exchange.channel
            given = message.headers
            headers: dict[str, Any] = {}
            links: Sequence[Link] = ()
            if given:
                headers = fresh_headers(given)
                links = link_to_original(given, header_getter) if len(headers) != len(given) else ()
                headers.pop(DEATHS_HEADER, None)
                died = deaths(headers)
                if died:
                    headers[DEATHS_HEADER] = total(died)
            correlation = message.correlation_id
            attributes: dict[str, AttributeValue] = (
                {MESSAGING_CONVERSATION_ID: str(correlation)} if correlation else {}
            )
            if message.expiration is not None:
                attributes |= lifetime(message)
            if later := not_before(headers):
                attributes[REASON] = later
            if self._recorder.opted.body_size:
                attributes[MESSAGING_BODY_SIZE] = message.body_size
            alias = own_message_id(message.message_id, given)
            where = destination(exchange.name, routing_key, channel._connection)
            hop = self._recorder.send(
                "publish",
                where,
                carrier=headers,
                attributes=attributes,
                aliases=(alias,) if alias is not None else (),
                links=links,
            )
            self._recorder.sent_again("publish", where, message.body, hop.message_id)
            carrying = outgoing(message, headers, alias or hop.message_id or None)
            if args:
                return hop, (carrying, *args[1:]), kwargs
            return hop, args, {**kwargs, "message": carrying}
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("publish", fault)
            return None


def _reason(headers: Mapping[str, Any], reason: str) -> str:
    """What the broker answered, behind when the message is to be routed: until then there is nowhere to route it."""
    return ": ".join(filter(None, (not_before(headers), reason)))
