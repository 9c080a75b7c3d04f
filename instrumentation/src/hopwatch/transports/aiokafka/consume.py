"""Consuming: one record at a time and in batches, each record a hop of its own; who reads which topic."""

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self, TypeVar
from weakref import WeakKeyDictionary, ref

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from opentelemetry.util.types import AttributeValue

from hopwatch.conventions import (
    KAFKA_OFFSET,
    KAFKA_TOMBSTONE,
    MESSAGING_BODY_SIZE,
    MESSAGING_CONSUMER_GROUP_NAME,
    MESSAGING_DESTINATION_PARTITION_ID,
    PENDING,
    SettleOutcome,
)
from hopwatch.handover import Attempts, Batch, handovers
from hopwatch.recorder import Destination, ProcessHop, Recorder
from hopwatch.transports.aiokafka.headers import header_getter
from hopwatch.transports.aiokafka.places import conversation, key, offset_of, receiver_of, servers
from hopwatch.wrapping import Args, Kwargs, guarded

T = TypeVar("T")
Call = Callable[..., Awaitable[T]]
Records = dict[TopicPartition, list[ConsumerRecord]]

LOST: Final = "the partition went to another member of the group"


class Consuming:
    """The wrappers around `AIOKafkaConsumer`; `async for` goes through `getone`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._again = Attempts()
        self._readers: WeakKeyDictionary[Any, ref[AIOKafkaConsumer]] = WeakKeyDictionary()
        self._furthest: dict[tuple[str, str, int], int] = {}

    async def start(self, wrapped: Call[T], consumer: AIOKafkaConsumer, args: Args, kwargs: Kwargs) -> T:
        """Report who reads what, once the group is joined."""
        result = await wrapped(*args, **kwargs)
        self._subscribed(consumer)
        return result

    def subscribe(
        self, wrapped: Callable[..., T], consumer: AIOKafkaConsumer, args: Args, kwargs: Kwargs
    ) -> T:
        """Report who reads what, if the consumer is running."""
        result = wrapped(*args, **kwargs)
        if consumer._coordinator is not None:
            self._subscribed(consumer)
        return result

    async def getone(
        self, wrapped: Call[ConsumerRecord], consumer: AIOKafkaConsumer, args: Args, kwargs: Kwargs
    ) -> ConsumerRecord:
        """Record one record; its hop ends when the task comes back for more."""
        handovers.back(consumer)
        record = await wrapped(*args, **kwargs)
        self._give(consumer, record)
        return record

    async def getmany(
        self, wrapped: Call[Records], consumer: AIOKafkaConsumer, args: Args, kwargs: Kwargs
    ) -> Records:
        """Record every record of a batch; a loop over them makes each the current one in turn."""
        handovers.back(consumer)
        batches = await wrapped(*args, **kwargs)
        self._give_batches(consumer, batches)
        return {partition: Batch(batch, ends=True) for partition, batch in batches.items()}

    async def commit(self, wrapped: Call[T], consumer: AIOKafkaConsumer, args: Args, kwargs: Kwargs) -> T:
        """End the hops of what is committed by hand: a handler says that it is done with them."""
        result = await wrapped(*args, **kwargs)
        self._committed(consumer, args[0] if args else kwargs.get("offsets"))
        return result

    async def stop(self, wrapped: Call[T], consumer: AIOKafkaConsumer, args: Args, kwargs: Kwargs) -> T:
        """End what is in hand before the last automatic commit, with the exception that stops the loop, if any."""
        handovers.closed(consumer, sys.exception())
        self._unsubscribed(consumer)
        return await wrapped(*args, **kwargs)

    async def joined(self, wrapped: Call[T], coordinator: Any, args: Args, kwargs: Kwargs) -> T:
        """End the hops of records whose partition went to another member: they can no longer be settled here."""
        result = await wrapped(*args, **kwargs)
        self._rebalanced(coordinator)
        return result

    @guarded
    def _rebalanced(self, coordinator: Any) -> None:
        known = self._readers.get(coordinator)
        consumer = known() if known is not None else None
        if consumer is None:
            return
        self._subscribed(consumer)  # topics that match a pattern may have come
        assigned = consumer.assignment()
        for record, hop in handovers.taken_from(consumer):
            if TopicPartition(record.topic, record.partition) not in assigned:
                hop.settled(SettleOutcome.NONE, LOST)
                hop.end(keep_current=True)

    @guarded
    def _give(self, consumer: AIOKafkaConsumer, record: ConsumerRecord) -> None:
        reading = _Reading.of(consumer, TopicPartition(record.topic, record.partition))
        handovers.gave(consumer, ((record, self._begin(reading, record, attach=True)),))

    @guarded
    def _give_batches(
        self, consumer: AIOKafkaConsumer, batches: Mapping[TopicPartition, Sequence[ConsumerRecord]]
    ) -> None:
        begun: list[tuple[ConsumerRecord, ProcessHop]] = []
        for partition, records in batches.items():
            reading = _Reading.of(consumer, partition)
            begun += [(record, self._begin(reading, record, attach=False)) for record in records]
        handovers.gave(consumer, begun)

    def _begin(self, reading: "_Reading", record: ConsumerRecord, *, attach: bool) -> ProcessHop:
        attributes: dict[str, AttributeValue] = {
            MESSAGING_DESTINATION_PARTITION_ID: reading.partition,
            KAFKA_OFFSET: record.offset,
        }
        if reading.highwater is not None:
            attributes[PENDING] = max(0, reading.highwater - record.offset - 1)
        if reading.group is not None:
            attributes[MESSAGING_CONSUMER_GROUP_NAME] = reading.group
        if record.value is None:
            attributes[KAFKA_TOMBSTONE] = True
        opted = self._recorder.opted
        if opted.message_key:
            attributes |= key(record.key)
        if opted.body_size and record.serialized_value_size >= 0:
            attributes[MESSAGING_BODY_SIZE] = record.serialized_value_size
        if record.headers:
            attributes |= conversation(record.headers)
        return self._recorder.process(
            "process",
            reading.destination,
            receiver=reading.receiver,
            carrier=record.headers,
            getter=header_getter,
            attempt=self._attempt(reading.receiver, record),
            attributes=attributes,
            attach=attach,
            settled=SettleOutcome.AUTO if reading.group is None else None,
        )

    def _attempt(self, receiver: str, record: ConsumerRecord) -> int:
        """Return which handing-over this is, as far as this process knows: Kafka itself does not count."""
        place = (receiver, record.topic, record.partition)
        if record.offset > self._furthest.get(place, -1):
            self._furthest[place] = record.offset
            return 1
        return self._again.again((*place, record.offset))

    @guarded
    def _committed(self, consumer: AIOKafkaConsumer, offsets: Any) -> None:
        """End what was taken one by one; the records of a batch may still be waiting for their turn."""
        for record, hop in handovers.single(consumer):
            partition = TopicPartition(record.topic, record.partition)
            if offsets is None or record.offset < offset_of(offsets.get(partition)):
                hop.end(keep_current=True)

    @guarded
    def _subscribed(self, consumer: AIOKafkaConsumer) -> None:
        self._readers[consumer._coordinator] = ref(consumer)
        for topic in _topics(consumer):
            durable = consumer._group_id is not None
            self._recorder.subscribed(topic, receiver=receiver_of(consumer, topic), durable=durable)

    @guarded
    def _unsubscribed(self, consumer: AIOKafkaConsumer) -> None:
        """A group keeps its claims while it is away; a reader on its own does not."""
        if consumer._group_id is None:
            for topic in _topics(consumer):
                self._recorder.unsubscribed(topic, receiver=receiver_of(consumer, topic))


def _topics(consumer: AIOKafkaConsumer) -> set[str]:
    """Return the topics subscribed to, or those of the partitions assigned by hand."""
    return set(consumer.subscription() or ()) | {partition.topic for partition in consumer.assignment()}


class _Reading(NamedTuple):
    """What is the same for all records of one partition that are handed over together."""

    destination: Destination
    partition: str
    receiver: str
    group: str | None
    highwater: int | None
    """Offset of the next record to be written, as of the last fetch; None during a rebalance."""

    @classmethod
    def of(cls, consumer: AIOKafkaConsumer, partition: TopicPartition) -> Self:
        """Look at a consumer once."""
        topic = partition.topic
        return cls(
            Destination(topic, topic, servers.of(consumer._client)),
            str(partition.partition),
            receiver_of(consumer, topic),
            consumer._group_id,
            _highwater(consumer, partition),
        )


def _highwater(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    state = assignment.state_value(partition) if assignment is not None else None
    highwater: int | None = state.highwater if state is not None else None
    return highwater
