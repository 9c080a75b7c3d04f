"""Producing: ids on a copy of the headers, the outcome from the future that resolves when the batch is answered."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, RequestTimedOutError
from aiokafka.structs import RecordMetadata

from hopwatch.conventions import KAFKA_TOMBSTONE, PublishOutcome
from hopwatch.recorder import Destination, KafkaPosition, Recorder, SendHop
from hopwatch.transports.aiokafka.headers import fresh, header_setter
from hopwatch.wrapping import Args, Kwargs, argument, guarded, with_argument

Future = asyncio.Future[RecordMetadata | None]

_HEADERS_AT: Final = 5
_ROOM_FOR_HEADERS: Final = 1024
_UNANSWERED: Final = (KafkaTimeoutError, RequestTimedOutError, KafkaConnectionError, asyncio.TimeoutError)


@dataclass(frozen=True, slots=True)
class _Sending:
    hop: SendHop
    args: Args
    kwargs: Kwargs


class Producing:
    """The wrapper around `AIOKafkaProducer.send`, which `send_and_wait` goes through too; batches do not."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

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
            # Cancelled or full: what is certain is only that nobody confirmed it.
            outcome = PublishOutcome.REFUSED if isinstance(error, Exception) else PublishOutcome.UNCONFIRMED
            sending.hop.end(outcome, error=error)
            raise
        future.add_done_callback(lambda done: _resolved(sending.hop, done))
        return future

    @guarded
    def _begin(self, producer: AIOKafkaProducer, args: Args, kwargs: Kwargs) -> _Sending | None:
        topic = argument(args, kwargs, 0, "topic")
        value = argument(args, kwargs, 1, "value")
        headers = fresh(argument(args, kwargs, _HEADERS_AT, "headers"))
        hop = self._recorder.send(
            "send",
            Destination(topic, topic),
            carrier=headers,
            setter=header_setter,
            attributes={KAFKA_TOMBSTONE: True} if value is None else None,
        )
        if not _fits(producer, value, argument(args, kwargs, 2, "key")):
            return _Sending(hop, args, kwargs)
        return _Sending(hop, *with_argument(args, kwargs, _HEADERS_AT, "headers", headers))


def _fits(producer: AIOKafkaProducer, value: Any, key: Any) -> bool:
    """Whether our headers leave a message below the producer's limit, as far as its size is known unserialised."""
    size = sum(len(part) for part in (value, key) if isinstance(part, bytes | bytearray))
    return bool(size + _ROOM_FOR_HEADERS <= producer._max_request_size)


def _resolved(hop: SendHop, future: Future) -> None:
    if future.cancelled():
        hop.end(PublishOutcome.UNCONFIRMED, reason="cancelled before the broker's answer")
    elif (error := future._exception) is not None:  # reading `exception()` would silence "never retrieved"
        outcome = PublishOutcome.UNCONFIRMED if isinstance(error, _UNANSWERED) else PublishOutcome.REFUSED
        hop.end(outcome, error=error)
    else:
        _confirmed(hop, future.result())


def _confirmed(hop: SendHop, metadata: RecordMetadata | None) -> None:
    """Say where the record lies; with acks=0 nobody knows."""
    if metadata is None or metadata.offset < 0:
        hop.end(PublishOutcome.SENT)
    else:
        hop.end(PublishOutcome.CONFIRMED, position=KafkaPosition(metadata.partition, metadata.offset))
