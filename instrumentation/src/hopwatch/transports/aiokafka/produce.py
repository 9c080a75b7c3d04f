"""Producing: ids on a copy of the headers, the outcome from the future that resolves when the batch is answered."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from opentelemetry.util.types import AttributeValue

from hopwatch.conventions import KAFKA_TOMBSTONE, MESSAGING_BODY_SIZE
from hopwatch.optin import OptIn
from hopwatch.recorder import Destination, Recorder, SendHop
from hopwatch.transports.aiokafka.headers import fresh, header_setter, originals
from hopwatch.transports.aiokafka.outcomes import Future, not_taken
from hopwatch.transports.aiokafka.places import conversation, key, servers
from hopwatch.transports.aiokafka.transaction import Transactions
from hopwatch.wrapping import Args, Kwargs, argument, guarded, with_argument

_HEADERS_AT: Final = 5
_ROOM_FOR_HEADERS: Final = 1024
_BYTES: Final = (bytes, bytearray)


class _Sending(NamedTuple):
    hop: SendHop
    args: Args
    kwargs: Kwargs


class Producing:
    """The wrapper around `AIOKafkaProducer.send`, which `send_and_wait` goes through too; batches do not."""

    def __init__(self, recorder: Recorder, transactions: Transactions) -> None:
        self._recorder = recorder
        self._transactions = transactions

    async def send(
        self,
        wrapped: Callable[..., Awaitable[Future]],
        producer: AIOKafkaProducer,
        args: Args,
        kwargs: Kwargs,
    ) -> Future:
        """Record a send until its future resolves."""
        sending = self._begin(producer, args, kwargs)
        if sending is None:
            return await wrapped(*args, **kwargs)
        try:
            future = await wrapped(*sending.args, **sending.kwargs)
        except BaseException as error:
            not_taken(sending.hop, error)
            raise
        self._transactions.follow(producer, sending.hop, future)
        return future

    @guarded
    def _begin(self, producer: AIOKafkaProducer, args: Args, kwargs: Kwargs) -> _Sending | None:
        topic = argument(args, kwargs, 0, "topic")
        value, record_key = argument(args, kwargs, 1, "value"), argument(args, kwargs, 2, "key")
        given = argument(args, kwargs, _HEADERS_AT, "headers")
        given = given if given is None or isinstance(given, list | tuple) else list(given)
        headers = fresh(given)
        hop = self._recorder.send(
            "send",
            Destination(topic, topic, servers.of(producer.client)),
            carrier=headers,
            setter=header_setter,
            attributes=described(headers, value, record_key, self._recorder.opted),
            links=originals(given, headers) if given else (),
        )
        sent = headers if _fits(producer, value, record_key) else given
        return _Sending(hop, *with_argument(args, kwargs, _HEADERS_AT, "headers", sent))


def described(headers: Any, value: Any, record_key: Any, opted: OptIn) -> dict[str, AttributeValue]:
    """Return what a record not yet serialised tells of itself."""
    attributes = conversation(headers)
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
