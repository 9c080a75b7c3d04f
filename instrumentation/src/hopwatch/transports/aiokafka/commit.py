"""Commits of a consumer group, by hand and automatic: Kafka's way to settle."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from aiokafka import TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator

from hopwatch.recorder import Recorder
from hopwatch.transports.aiokafka.places import committed_at
from hopwatch.wrapping import Args, Kwargs, argument, guarded

T = TypeVar("T")


class Committing:
    """The wrapper around the one place in aiokafka that sends commits."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._said: WeakKeyDictionary[GroupCoordinator, dict[TopicPartition, int]] = WeakKeyDictionary()

    async def commit(
        self, wrapped: Callable[..., Awaitable[T]], coordinator: GroupCoordinator, args: Args, kwargs: Kwargs
    ) -> T:
        """Record the positions a group has moved to; automatic commits repeat those that did not move."""
        result = await wrapped(*args, **kwargs)
        self._committed(coordinator, argument(args, kwargs, 1, "offsets"))
        return result

    @guarded
    def _committed(self, coordinator: GroupCoordinator, offsets: Mapping[TopicPartition, Any]) -> None:
        said = self._said.setdefault(coordinator, {})
        for partition, committed in offsets.items():
            if said.get(partition) != committed.offset:
                said[partition] = committed.offset
                self._recorder.commit(
                    committed_at(partition.topic, coordinator._client),
                    receiver=coordinator.group_id,
                    partition=partition.partition,
                    offset=committed.offset,
                )
