"""Producing: ids on a copy of the headers, the outcome from the future that resolves when the batch is answered."""

from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from opentelemetry.trace import Link
from opentelemetry.util.types import AttributeValue

from hopwatch.beside import Beside
from hopwatch.conventions import KAFKA_TOMBSTONE, MESSAGING_BODY_SIZE
from hopwatch.faults import swallowed
from hopwatch.optin import OptIn
from hopwatch.recorder import Destination, Recorder, SendHop
from hopwatch.transports.aiokafka.headers import Header, fresh, header_setter, originals
from hopwatch.transports.aiokafka.outcomes import Future, What, not_taken
from hopwatch.transports.aiokafka.places import clusters, conversation, key, servers
from hopwatch.transports.aiokafka.transaction import Transactions
from hopwatch.wrapping import Args, Kwargs, Patches, with_argument

_HEADERS_AT: Final = 5
_ROOM_FOR_HEADERS: Final = 1024
_TOPICS: Final = 1_024
"""Topics of a producer whose destination is kept."""

_BYTES: Final = (bytes, bytearray)


class Producing:
    """The wrapper around `AIOKafkaProducer.send`, which `send_and_wait` goes through too; batches do not."""

    def __init__(self, recorder: Recorder, patches: Patches, transactions: Transactions) -> None:
        self._recorder = recorder
        self._patches = patches
        self._transactions = transactions
        self._topics: Beside[dict[str, Destination]] = Beside()
        clusters.listeners.add(self)

    def send(self, original: Callable[..., Awaitable[Future]]) -> Callable[..., Awaitable[Future]]:
        """Record a send until the broker's answer."""

        @wraps(original)
        async def send(producer: AIOKafkaProducer, *args: Any, **kwargs: Any) -> Future:
            sending = self._begin(producer, args, kwargs) if self._patches.active else None
            if sending is None:
                return await original(producer, *args, **kwargs)
            hop, what, args, kwargs = sending
            try:
                future = await original(producer, *args, **kwargs)
            except BaseException as error:
                not_taken(hop, error)
                raise
            self._transactions.follow(producer, hop, future, what)
            return future

        return send

    def _begin(
        self, producer: AIOKafkaProducer, args: Args, kwargs: Kwargs
    ) -> tuple[SendHop, What, Args, Kwargs] | None:
        """Begin the hop; `kwargs` belongs to the call, and gets the headers."""
        try:
            topic: str = args[0] if args else kwargs["topic"]
            value = args[1] if len(args) > 1 else kwargs.get("value")
            record_key = args[2] if len(args) > 2 else kwargs.get("key")
            given = args[_HEADERS_AT] if len(args) > _HEADERS_AT else kwargs.get("headers")
            headers: list[Header] = []
            links: Sequence[Link] = ()
            if given:
                given = given if isinstance(given, list | tuple) else list(given)
                headers = fresh(given)
                links = originals(given, headers)
            destination = self._destination(producer, topic)
            hop = self._recorder.send(
                "send",
                destination,
                carrier=headers,
                setter=header_setter,
                attributes=described(headers, value, record_key, self._recorder.opted),
                links=links,
            )
            what = destination, value
            self._recorder.sent_again("send", destination, value, hop.message_id)
            sent = headers if _fits(producer, value, record_key) else given
            if len(args) > _HEADERS_AT:
                return hop, what, *with_argument(args, kwargs, _HEADERS_AT, "headers", sent)
            kwargs["headers"] = sent
            return hop, what, args, kwargs
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("send", fault)
            return None

    def forget(self) -> None:
        """Have every destination told anew: one may have been told before its cluster was known."""
        self._topics = Beside()

    def _destination(self, producer: AIOKafkaProducer, topic: str) -> Destination:
        known = self._topics.get(producer)
        if known is None:
            known = self._topics.put(producer, {})
        destination = known.get(topic)
        if destination is None:
            if len(known) >= _TOPICS:
                known.clear()
            destination = known[topic] = Destination(topic, topic, servers.of(producer.client))
        return destination


def described(headers: Any, value: Any, record_key: Any, opted: OptIn) -> dict[str, AttributeValue]:
    """Return what a record not yet serialised tells of itself."""
    attributes = conversation(headers) if headers else {}
    if value is None:
        attributes[KAFKA_TOMBSTONE] = True
    if opted.message_key:
        attributes |= key(record_key)
    if opted.body_size and isinstance(value, bytes | bytearray):
        attributes[MESSAGING_BODY_SIZE] = len(value)
    return attributes


def _fits(producer: AIOKafkaProducer, value: Any, record_key: Any) -> bool:
    """Whether our headers leave a message below the producer's limit, as far as its size is known unserialised."""
    size = _ROOM_FOR_HEADERS
    for part in (value, record_key):
        if isinstance(part, _BYTES):
            size += len(part)
    return bool(size <= producer._max_request_size)
