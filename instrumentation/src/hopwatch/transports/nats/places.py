"""Where a NATS message goes and comes from, and what its sender knows of it afterwards."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError, NotJSMessageError, TimeoutError
from nats.js.errors import NoStreamResponseError
from opentelemetry import trace
from opentelemetry.trace import Link, TracerProvider
from opentelemetry.util.types import AttributeValue

from hopwatch.conventions import (
    ALIAS,
    MESSAGING_BODY_SIZE,
    MESSAGING_CONSUMER_GROUP_NAME,
    MESSAGING_CONVERSATION_ID,
    MESSAGING_DESTINATION_TEMPORARY,
    PENDING,
    REASON,
    PublishOutcome,
    SettleOutcome,
)
from hopwatch.faults import swallowed
from hopwatch.links import link_to_original
from hopwatch.recorder import (
    Destination,
    Holding,
    ProcessHop,
    Recorder,
    SendHop,
    StreamPosition,
)
from hopwatch.servers import Address, Servers
from hopwatch.wrapping import (
    Args,
    Kwargs,
    argument,
    fresh_headers,
    header_getter,
    service_name,
    with_argument,
)

_DESTINATIONS: Final = 1_024
_destinations: Final[dict[str, tuple[object, Destination]]] = {}
"""The last subjects that are no inboxes, with the words of the server last used for each, so that most messages need no
second look."""

_readers: Final[dict[tuple[TracerProvider | None, str], str]] = {}
"""Who the last plain subscriptions receive for, likewise, by whose service they are."""

INBOX: Final = "_INBOX"
"""Destination of every reply: the inbox's own name is the conversation id."""

_SYSTEM_PREFIX = "$"
_ACK_PREFIX = "$JS.ACK."
_MESSAGE_ID_HEADER = "Nats-Msg-Id"
_STATUS_HEADER = "Status"
_SCHEDULE_HEADER = "Nats-Schedule"
_SCHEDULE_TARGET_HEADER = "Nats-Schedule-Target"
_ONCE: Final = "@at "
_ROOM_FOR_HEADERS = 1024
_REPLY_AT: Final = 2


@dataclass(slots=True)
class Asking:
    """A request under way: what the library publishes for it carries `headers`, if not given by the caller."""

    hop: SendHop
    headers: dict[str, Any] | None = None
    inbox: str | None = None


_quiet: ContextVar[Asking | bool] = ContextVar("hopwatch-nats-quiet", default=False)


@contextmanager
def quietly(asking: Asking | None = None) -> Iterator[None]:
    """Leave out what the library itself sends and receives in here on the way to one operation of the user's."""
    token = _quiet.set(asking or True)
    try:
        yield
    finally:
        _quiet.reset(token)


quiet_here: Final = _quiet.get
"""What this is a part of, False for nothing: `is_quiet` for where calls are counted."""


def is_quiet() -> bool:
    """Whether this is inside an operation that is recorded as a whole."""
    return _quiet.get() is not False


def asking() -> Asking | None:
    """Return the request that the library is publishing here, if it is."""
    under_way = _quiet.get()
    return under_way if isinstance(under_way, Asking) else None


def speak_up() -> None:
    """Begin user code in a task that may have been started from within an operation of the library."""
    _quiet.set(False)


def _address(client: Client) -> Address:
    """Return the server of the connection in force; after a reconnect it may be another."""
    url = client.connected_url
    return (url.hostname, url.port) if url is not None else (None, None)


def _said(client: Client) -> object | None:
    """Return what the server said of itself when the connection began, and whenever something about it changed."""
    return client._server_info or None


def _server_id(client: Client) -> str | None:
    return client._server_info.get("server_id")


servers: Final = Servers(_address, _said, _server_id)
"""The servers that this process's NATS connections are to."""


def holding(pattern: str, receiver: str, client: Client, *, durable: bool) -> Holding:
    """Return a subscription as the server lists who has it: by the number of the connection."""
    broker, number = servers.broker_of(client), client._client_id
    member = f"{broker}:{number}" if broker and number is not None else ""
    return Holding(pattern, receiver, durable, broker, member)


def is_system(subject: str) -> bool:
    """Whether a subject belongs to NATS itself: JetStream's API and acks, key-value, objects, monitoring."""
    return subject.startswith(_SYSTEM_PREFIX)


def is_inbox(subject: str, client: Client) -> bool:
    """Whether a subject is a reply inbox, with the client's own prefix or the usual one."""
    return subject.startswith((f"{INBOX}.", f"{client._inbox_prefix.decode()}."))


def destination(subject: str, client: Client) -> Destination:
    """Return where a message with this subject goes; all reply inboxes are one temporary destination."""
    said = client._server_info
    known = _destinations.get(subject)
    if known is not None and known[0] is said:
        return known[1]
    server = servers.of(client)
    if is_inbox(subject, client):
        return Destination(INBOX, INBOX, {MESSAGING_DESTINATION_TEMPORARY: True, **server})
    where = Destination(subject, subject, server)
    if said:
        if len(_destinations) >= _DESTINATIONS:
            _destinations.clear()
        _destinations[subject] = said, where
    return where


def receiver(subject: str, queue: str, client: Client) -> str:
    """Return who a core subscription receives for: its queue group, or this service on its own."""
    return queue or _readers.get((trace._TRACER_PROVIDER, subject)) or _reader(subject, client)


def _reader(subject: str, client: Client) -> str:
    service = service_name()
    if is_inbox(subject, client):
        return f"{service}:{INBOX}"
    if len(_readers) >= _DESTINATIONS:
        _readers.clear()
    reader = _readers[trace._TRACER_PROVIDER, subject] = f"{service}:{subject}"
    return reader


def outcome_of(error: BaseException) -> PublishOutcome:
    """Return what a failed publish or request says of its message."""
    if isinstance(error, NoRespondersError | NoStreamResponseError):
        return PublishOutcome.RETURNED
    if isinstance(error, TimeoutError | asyncio.TimeoutError) or not isinstance(error, Exception):
        return PublishOutcome.UNCONFIRMED
    return PublishOutcome.REFUSED


def failed_send(
    recorder: Recorder, hop: SendHop, client: Client, args: Args, kwargs: Kwargs, error: BaseException
) -> None:
    """End a send that raised; where nobody answered it, the same may be sent again."""
    outcome = outcome_of(error)
    hop.end(outcome, error=error)
    subject = argument(args, kwargs, 0, "subject")
    if outcome is PublishOutcome.UNCONFIRMED and subject:
        recorder.unanswered(
            destination(subject, client), argument(args, kwargs, 1, "payload", b""), hop.message_id
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a stream is asked to send later, instead of the message that asks for it."""

    subject: str
    reason: str
    """When, as the judge reads it; empty where that is not said, or comes again and again."""

    @classmethod
    def of(cls, headers: Mapping[str, Any] | None) -> "Schedule | None":
        """Return what the headers of a message ask for; None: nothing."""
        subject = headers.get(_SCHEDULE_TARGET_HEADER) if headers else None
        if not subject or headers is None:
            return None
        said = str(headers.get(_SCHEDULE_HEADER, ""))
        if not said.startswith(_ONCE):
            return cls(str(subject), "")
        try:
            at = datetime.fromisoformat(said.removeprefix(_ONCE))
        except ValueError:  # the server will say so
            return cls(str(subject), "")
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return cls(str(subject), f"not before {max(0.0, at.timestamp() - time.time()):.3f} s")


Sending = tuple[SendHop, Args, Kwargs]
"""A send that has begun, and the arguments that carry its ids."""


def begin_send(
    recorder: Recorder, name: str, client: Client, args: Args, kwargs: Kwargs, *, headers_at: int
) -> Sending | None:
    """Begin the send of a call whose first argument is the subject, None if it is no message of the user's."""
    try:
        subject = args[0] if args else kwargs.get("subject")
        if _quiet.get() is not False or not subject or subject[0] == _SYSTEM_PREFIX:
            return None
        passed = len(args)
        given = args[headers_at] if passed > headers_at else kwargs.get("headers")
        payload = args[1] if passed > 1 else kwargs.get("payload", b"")
        schedule = Schedule.of(given)
        where = destination(schedule.subject if schedule else subject, client)
        tie = None
        if headers_at == _REPLY_AT + 1:  # core publish alone has a reply subject before the headers
            tie = args[_REPLY_AT] if passed > _REPLY_AT else kwargs.get("reply")
        if not tie and where.name is INBOX:
            tie = subject
        attributes: dict[str, AttributeValue] = {MESSAGING_CONVERSATION_ID: tie} if tie else {}
        if schedule and schedule.reason:
            attributes[REASON] = schedule.reason
        if recorder.opted.body_size:
            attributes[MESSAGING_BODY_SIZE] = len(payload)
        headers: dict[str, Any] = {}
        aliases: tuple[str, ...] = ()
        links: Sequence[Link] = ()
        if given:
            headers = fresh_headers(given)
            alias = headers.get(_MESSAGE_ID_HEADER)
            aliases = (str(alias),) if alias else ()
            links = link_to_original(given, header_getter) if len(given) != len(headers) else ()
        hop = recorder.send(name, where, carrier=headers, attributes=attributes, aliases=aliases, links=links)
        recorder.sent_again(name, where, payload, hop.message_id)
        most = client._max_payload
        if client._server_info.get("headers", True) and (
            not most or len(payload) + _ROOM_FOR_HEADERS <= most  # else ours would push it over its limit
        ):
            if passed > headers_at:
                args, kwargs = with_argument(args, kwargs, headers_at, "headers", headers)
            else:
                kwargs = {**kwargs, "headers": headers}
        return hop, args, kwargs
    except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
        swallowed("send", fault)
        return None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What JetStream says of a message with its reply subject."""

    stream: str
    consumer: str
    attempt: int
    position: StreamPosition
    pending: int


def delivery_of(message: Msg) -> Delivery | None:
    """Return what JetStream says of a message, None for a message of core NATS."""
    if not message.reply.startswith(_ACK_PREFIX):
        return None
    try:
        said = message.metadata
    except (NotJSMessageError, ValueError):
        return None
    position = StreamPosition(said.stream, said.sequence.stream)
    return Delivery(said.stream, said.consumer, said.num_delivered, position, said.num_pending)


class KnowsConsumers(Protocol):
    """Knows which JetStream consumers acknowledge."""

    def acknowledges(self, delivery: Delivery) -> bool:
        """Whether the receiver of a delivery has to acknowledge it."""
        ...


def begin_process(
    recorder: Recorder,
    consumers: KnowsConsumers,
    client: Client,
    message: Msg,
    *,
    subject: str,
    queue: str,
    attach: bool = True,
) -> ProcessHop | None:
    """Begin the processing of a message that came for a subscription, None if it is none of the user's."""
    try:
        headers, reply = message.headers, message.reply
        title = message.subject
        if title[0] == _SYSTEM_PREFIX or (not message.data and headers and _STATUS_HEADER in headers):
            return None
        where = destination(title, client)
        settled: SettleOutcome | None = SettleOutcome.AUTO
        attempt = 1
        delivery = delivery_of(message) if reply and reply[0] == _SYSTEM_PREFIX else None
        if delivery is not None:
            attributes = delivery.position.attributes()
            attributes[PENDING] = delivery.pending
            attempt, owed = delivery.attempt, f"{delivery.stream}/{delivery.consumer}"
            settled = None if consumers.acknowledges(delivery) else settled
        else:
            owed = queue or _readers.get((trace._TRACER_PROVIDER, subject)) or _reader(subject, client)
            tie = reply or (title if where.name is INBOX else None)
            attributes = {MESSAGING_CONVERSATION_ID: tie} if tie else {}
        if headers and _MESSAGE_ID_HEADER in headers:
            attributes[ALIAS] = (headers[_MESSAGE_ID_HEADER],)
        if queue:
            attributes[MESSAGING_CONSUMER_GROUP_NAME] = queue
        if recorder.opted.body_size:
            attributes[MESSAGING_BODY_SIZE] = len(message.data)
        return recorder.process(
            "process",
            where,
            receiver=owed,
            carrier=headers,
            getter=header_getter,
            attempt=attempt,
            attributes=attributes,
            attach=attach,
            settled=settled,
        )
    except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
        swallowed("process", fault)
        return None
