"""What the broker's answer, or its absence, says of a record."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, RequestTimedOutError
from aiokafka.producer.message_accumulator import MessageBatch
from aiokafka.structs import RecordMetadata

from hopwatch.conventions import PublishOutcome
from hopwatch.recorder import Destination, KafkaPosition, Recorder, SendHop
from hopwatch.wrapping import Args, Kwargs, guarded

T = TypeVar("T")
Future = asyncio.Future[RecordMetadata | None]
What = tuple[Destination, Any]
"""Where a record was sent, and its value as the application gave it."""

_UNANSWERED: Final = (KafkaTimeoutError, RequestTimedOutError, KafkaConnectionError, asyncio.TimeoutError)


class Answers:
    """Sends that wait for the broker's answer, which the library spreads from a batch over its messages' futures.

    A callback on each of these would cost a message a tenth of what its send does. More than `LIMIT` at a time get one.
    """

    LIMIT: Final = 100_000

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._waiting: dict[Future, tuple[SendHop, What]] = {}

    def wait(self, hop: SendHop, future: Future, what: What) -> None:
        """End a send once the batch is answered that its future is of."""
        if future.done():
            answered(hop, future)
        elif len(self._waiting) < self.LIMIT:
            self._waiting[future] = hop, what
        else:
            future.add_done_callback(partial(answered, hop))

    def batch(self, wrapped: Callable[..., T], batch: MessageBatch, args: Args, kwargs: Kwargs) -> T:
        """End the sends of a batch that was answered, or given up."""
        try:
            return wrapped(*args, **kwargs)
        finally:
            self._answered(batch)

    @guarded
    def _answered(self, batch: MessageBatch) -> None:
        for future, _ in batch._msg_futures:
            waiting = self._waiting.pop(future, None)
            if waiting is None:
                continue
            hop, what = waiting
            answered(hop, future)
            if not future.cancelled() and isinstance(future._exception, _UNANSWERED):
                self._recorder.unanswered(*what, hop.message_id)


def not_taken(hop: SendHop, error: BaseException) -> None:
    """End a send that the library did not take; cancelled, it is only certain that nobody confirmed it."""
    outcome = PublishOutcome.REFUSED if isinstance(error, Exception) else PublishOutcome.UNCONFIRMED
    hop.end(outcome, error=error)


def answered(hop: SendHop, future: Future, relative: int = 0) -> None:
    """End a send with what its future holds; `relative` is the record's place in the batch the future is of."""
    if future.cancelled():
        hop.end(PublishOutcome.UNCONFIRMED, reason="cancelled before the broker's answer")
    elif (error := future._exception) is not None:  # reading `exception()` would silence "never retrieved"
        outcome = PublishOutcome.UNCONFIRMED if isinstance(error, _UNANSWERED) else PublishOutcome.REFUSED
        hop.end(outcome, error=error)
    else:
        metadata = future.result()
        if metadata is None or metadata.offset < 0:  # with acks=0 nobody knows where the record lies
            hop.end(PublishOutcome.SENT)
        else:
            position = KafkaPosition(metadata.partition, metadata.offset + relative)
            hop.end(PublishOutcome.CONFIRMED, position=position)
