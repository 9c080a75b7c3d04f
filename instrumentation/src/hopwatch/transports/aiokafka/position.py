"""Seeking: records that a reader jumps over are not lost, but nobody else would say why they were not read.

Going back is reported too: what was jumped over and lies ahead again is no longer skipped. (Read again it is a further
attempt, which needs no report.)
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from hopwatch.recorder import Destination, Recorder
from hopwatch.transports.aiokafka.places import receiver_of, servers
from hopwatch.wrapping import Args, Kwargs, guarded

T = TypeVar("T")
Positions = dict[TopicPartition, int]


class Moving:
    """The wrappers around seeks."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def seek(self, wrapped: Callable[..., T], consumer: AIOKafkaConsumer, args: Args, kwargs: Kwargs) -> T:
        """Report where a seek to an offset leads."""
        before = _positions(consumer)
        result = wrapped(*args, **kwargs)
        self._moved(consumer, before)
        return result

    async def seek_later(
        self, wrapped: Callable[..., Awaitable[T]], consumer: AIOKafkaConsumer, args: Args, kwargs: Kwargs
    ) -> T:
        """Report where a seek leads whose target the broker knows."""
        before = _positions(consumer)
        result = await wrapped(*args, **kwargs)
        self._moved(consumer, before)
        return result

    @guarded
    def _moved(self, consumer: AIOKafkaConsumer, before: Positions | None) -> None:
        now = _positions(consumer) or {}
        for partition, first in (before or {}).items():
            until = now.get(partition, first)
            if until != first:
                self._recorder.skipped(
                    Destination(partition.topic, partition.topic, servers.of(consumer._client)),
                    receiver=receiver_of(consumer, partition.topic),
                    partition=partition.partition,
                    first=first,
                    until=until,
                )


@guarded
def _positions(consumer: AIOKafkaConsumer) -> Positions:
    """Return the next offset to read of every assigned partition where that is known."""
    subscription = consumer._subscription.subscription
    if subscription is None or subscription.assignment is None:
        return {}
    states = {tp: subscription.assignment.state_value(tp) for tp in subscription.assignment.tps}
    return {tp: state.position for tp, state in states.items() if state.has_valid_position}
