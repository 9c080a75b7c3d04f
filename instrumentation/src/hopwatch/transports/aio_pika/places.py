"""Where an AMQP message goes and comes from, what its headers tell, and what its sender knows of it afterwards."""

import asyncio
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiormq
import wrapt
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage, AbstractMessage
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import (
    AMQPConnectionError,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    DeliveryError,
)
from opentelemetry.util.types import AttributeValue

from hopwatch.conventions import (
    ALIAS,
    DEAD_LETTER_REASON,
    DEAD_LETTER_RECEIVER,
    DEATHS_HEADER,
    MESSAGE_ID_HEADER,
    MESSAGING_BODY_SIZE,
    MESSAGING_CONVERSATION_ID,
    MESSAGING_DESTINATION_ANONYMOUS,
    RABBITMQ_DELIVERY_TAG,
    RABBITMQ_ROUTING_KEY,
    TTL,
    PublishOutcome,
)
from hopwatch.handover import Attempts
from hopwatch.optin import OptIn
from hopwatch.recorder import Attributes, Destination, StreamPosition
from hopwatch.servers import Address, Servers
from hopwatch.wrapping import as_text

if TYPE_CHECKING:
    _Proxy = wrapt.ObjectProxy[AbstractMessage]
else:
    _Proxy = wrapt.ObjectProxy  # takes no type arguments in older versions

_PLACES: Final = 1_024
_places: Final[dict[tuple[str, str, str | None], tuple[Attributes, Destination]]] = {}
"""The last destinations, at the server last used for each, so that most messages need no second look at theirs."""

_DEFAULT_VHOST: Final = "/"
_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_STREAM_OFFSET: Final = "x-stream-offset"
_REPLY_TO: Final = "amq.rabbitmq.reply-to"
_SERVER_NAMED: Final = ("amq.gen-", _REPLY_TO)
_DELAY: Final = "x-delay"
_DELIVERY_COUNT: Final = "x-delivery-count"
_DEATH: Final = "x-death"
_BROKERS_OWN: Final = frozenset({_DELIVERY_COUNT, _DEATH})
"""Headers in which a broker says what happened to a message before."""


def address(exchange: str, routing_key: str) -> str:
    """Return how sender and receiver spell a destination; direct reply-to is one, whoever asks."""
    if routing_key.startswith(_REPLY_TO):
        routing_key = _REPLY_TO
    return f"{exchange}:{routing_key}" if exchange else routing_key


def destination(exchange: str, routing_key: str, connection: Any, queue: str | None = None) -> Destination:
    """Return the destination of a publish, or that of a delivery: the conventions add its queue to the name.

    `connection` is one of aio-pika or aiormq, None where there is none at the moment.
    """
    key = (exchange, routing_key, queue)
    server = servers.of(connection)
    known = _places.get(key)
    if known is not None and known[0] is server:
        return known[1]
    where = address(exchange, routing_key)
    name = where if queue is None or routing_key == queue else f"{where}:{queue}"
    place = Destination(name, where, _attributes(routing_key, server))
    if connection is not None:
        if len(_places) >= _PLACES:
            _places.clear()
        _places[key] = server, place
    return place


def _attributes(routing_key: str, server: Attributes) -> Attributes:
    if routing_key.startswith(_SERVER_NAMED):
        return {RABBITMQ_ROUTING_KEY: routing_key, MESSAGING_DESTINATION_ANONYMOUS: True, **server}
    return {RABBITMQ_ROUTING_KEY: routing_key, **server}


def _address(connection: Any) -> Address:
    url = connection.url
    return url.host, url.port or _PORTS.get(url.scheme)


def link(connection: Any) -> Any:
    """Return the connection of aiormq that is in force beneath one of aio-pika, or is given; None for none."""
    transport = getattr(connection, "transport", connection)
    return getattr(transport, "connection", transport)


def _said(connection: Any) -> object | None:
    """Return what the broker said of itself when the connection began."""
    return getattr(link(connection), "server_properties", None)


def _broker(connection: Any) -> str | None:
    """Return a broker's cluster and virtual host, None where the broker is of another make and tells no cluster."""
    own = link(connection)
    cluster = as_text(own.server_properties.get("cluster_name"))
    return f"{cluster}/{'' if own.vhost == _DEFAULT_VHOST else own.vhost}" if cluster else None


servers: Final = Servers(_address, _said, _broker)
"""The servers that this process's AMQP connections are to, as they were configured, and the brokers they turned out to be."""


class Outgoing(_Proxy):
    """A caller's message with headers and id of this one publish; the caller's own stays as it was."""

    _self_properties: aiormq.spec.Basic.Properties

    @property
    def properties(self) -> aiormq.spec.Basic.Properties:
        """The message's properties with ours in them."""
        return self._self_properties


def outgoing(
    message: AbstractMessage, headers: dict[str, Any], message_id: str | None
) -> AbstractMessage | Outgoing:
    """Return a message as it goes out this time; as it is where it has no properties: its publish will say why."""
    try:
        properties = message.properties
    except Exception:  # noqa: BLE001 — it is the caller's, who gets it from there
        return message
    if type(message).properties is not Message.properties:
        properties = copy(properties)  # aio-pika's own makes new ones each time; another's may not
    properties.headers = headers
    properties.message_id = message_id
    made = Outgoing(message)
    made._self_properties = properties
    return made


def own_message_id(given: str | None, headers: Mapping[str, Any] | None) -> str | None:
    """Return the id the application gave a message; one that we gave an earlier hop of it is not its own."""
    if not given or (headers and given == headers.get(MESSAGE_ID_HEADER)):
        return None
    return None if given == _ours(headers) else str(given)


def _ours(headers: Mapping[str, Any] | None) -> str | None:
    """Return the message id in headers, which a sender with hopwatch put there."""
    return as_text(headers.get(MESSAGE_ID_HEADER)) if headers else None


def lifetime(message: AbstractMessage) -> dict[str, AttributeValue]:
    """Return how long the broker may keep a message that expires, as it goes over the wire: milliseconds in digits."""
    try:
        return {TTL: int(str(message.properties.expiration))}
    except ValueError:  # it cannot be sent either
        return {}


def not_before(headers: Mapping[str, Any]) -> str:
    """Return when an exchange that delays is asked to route a message, as the judge reads it; nothing where it is not asked to."""
    try:
        delay = int(
            headers.get(_DELAY) or 0
        )  # the exchange takes a whole number as text, and cuts a fraction off
    except (TypeError, ValueError):
        return ""
    return f"not before {delay / 1000:.3f} s" if delay > 0 else ""


def is_simple(message: AbstractIncomingMessage, headers: Mapping[str, Any] | None) -> bool:
    """Whether a broker handed a message over for the first time, and says nothing of it in its headers."""
    return not message.redelivered and (not headers or _BROKERS_OWN.isdisjoint(headers))


def outcome_of_result(result: object) -> tuple[PublishOutcome, str]:
    """Return what a publish that raised nothing says of its message; unroutable ones come back as the result."""
    if result is None:
        return PublishOutcome.SENT, ""
    frame = result.delivery if isinstance(result, DeliveredMessage) else result
    if isinstance(frame, aiormq.spec.Basic.Return):
        return PublishOutcome.RETURNED, f"{frame.reply_code} {frame.reply_text}"
    return PublishOutcome.CONFIRMED, ""


def outcome_of_error(error: BaseException) -> PublishOutcome:
    """Return what a publish that raised says of its message."""
    if isinstance(error, DeliveryError):
        returned = isinstance(error.frame, aiormq.spec.Basic.Return) or isinstance(
            getattr(error.message, "delivery", None), aiormq.spec.Basic.Return
        )
        return PublishOutcome.RETURNED if returned else PublishOutcome.REFUSED
    if isinstance(error, ChannelNotFoundEntity):
        return PublishOutcome.RETURNED
    unanswered = (asyncio.TimeoutError, ChannelInvalidStateError, AMQPConnectionError, ConnectionError)
    if isinstance(error, unanswered) or not isinstance(error, Exception):
        return PublishOutcome.UNCONFIRMED
    return PublishOutcome.REFUSED


@dataclass(frozen=True, slots=True)
class Death:
    """One entry of `x-death`: how often, from which queue and why a message was dead-lettered."""

    queue: str
    reason: str
    count: int


def deaths(headers: Mapping[str, Any] | None) -> list[Death]:
    """Return the entries of `x-death`, the latest first; what is malformed is left out."""
    entries = headers.get(_DEATH) if headers else None
    if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
        return []
    tables = (entry for entry in entries if isinstance(entry, Mapping))
    return [
        Death(
            as_text(table.get("queue")) or "", as_text(table.get("reason")) or "", _count(table.get("count"))
        )
        for table in tables
    ]


def own_deaths(headers: Mapping[str, Any] | None) -> list[Death]:
    """Return the entries of `x-death` unless all are those of a predecessor."""
    if not headers or _DEATH not in headers:
        return []
    died = deaths(headers)
    return died if died and total(died) > _count(headers.get(DEATHS_HEADER), default=0) else []


def total(died: Sequence[Death]) -> int:
    """Return how often a message was dead-lettered altogether."""
    return sum(death.count for death in died)


def details(
    message: AbstractIncomingMessage, queue: str, died: Sequence[Death], opted: OptIn
) -> dict[str, AttributeValue]:
    """Return what a delivered message tells beyond its destination; one of a stream, where it lies there.

    Its correlation id ties a reply to its request.
    """
    correlation = message.correlation_id
    attributes: dict[str, AttributeValue] = (
        {MESSAGING_CONVERSATION_ID: str(correlation)} if correlation else {}
    )
    headers = message.headers
    offset = headers.get(_STREAM_OFFSET) if headers else None
    if isinstance(offset, int):
        attributes |= StreamPosition(queue, offset).attributes()
    if opted.body_size:
        attributes[MESSAGING_BODY_SIZE] = message.body_size
    tag = message.delivery_tag
    if tag is not None:
        attributes[RABBITMQ_DELIVERY_TAG] = tag
    alias = own_message_id(message.message_id, headers)
    if alias is not None:
        attributes[ALIAS] = (alias,)
    if died:
        attributes[DEAD_LETTER_RECEIVER] = died[0].queue
        attributes[DEAD_LETTER_REASON] = died[0].reason
    return attributes


def attempt(message: AbstractIncomingMessage, queue: str, died: Sequence[Death], again: Attempts) -> int:
    """Return which handing-over to this queue's consumers this is.

    Quorum queues count exactly. Others only say "redelivered", counted here; a copy that came back through a
    dead-letter exchange was in this queue before (`died` is what `own_deaths` says).
    """
    headers = message.headers or {}
    before = sum(death.count for death in died if death.queue == queue) if died else 0
    counted = headers.get(_DELIVERY_COUNT)
    if isinstance(counted, int):
        return counted + before + 1
    if not message.redelivered:
        return before + 1
    key = _ours(headers) or message.message_id
    return before + (again.again((queue, key, before)) if key else 2)


def _count(value: Any, default: int = 1) -> int:
    return value if isinstance(value, int) else default
