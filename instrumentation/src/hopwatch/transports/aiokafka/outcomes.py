"""What the broker's answer, or its absence, says of a record."""

import asyncio
from typing import Final

from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, RequestTimedOutError
from aiokafka.structs import RecordMetadata

from hopwatch.conventions import PublishOutcome
from hopwatch.recorder import KafkaPosition, SendHop

Future = asyncio.Future[RecordMetadata | None]

_UNANSWERED: Final = (KafkaTimeoutError, RequestTimedOutError, KafkaConnectionError, asyncio.TimeoutError)


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
        _confirmed(hop, future.result(), relative)


def _confirmed(hop: SendHop, metadata: RecordMetadata | None, relative: int) -> None:
    """Say where the record lies; with acks=0 nobody knows."""
    if metadata is None or metadata.offset < 0:
        hop.end(PublishOutcome.SENT)
    else:
        position = KafkaPosition(metadata.partition, metadata.offset + relative)
        hop.end(PublishOutcome.CONFIRMED, position=position)
