"""Consuming: one record at a time and in batches, each record a hop of its own; who reads which topic."""

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, Self, TypeVar
from weakref import WeakKeyDictionary, ref

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from opentelemetry.util.types import AttributeValue

from hopwatch.beside import Beside
from hopwatch.conventions import (
    KAFKA_OFFSET,
    KAFKA_TOMBSTONE,
    MESSAGING_BODY_SIZE,
    MESSAGING_CONSUMER_GROUP_NAME,
    MESSAGING_DESTINATION_PARTITION_ID,
    PENDING,
    SettleOutcome,
)
from hopwatch.faults import swallowed
from hopwatch.handover import JUST_GOT, Attempts, Batch, Taker, handovers
from hopwatch.holders import Holders
from hopwatch.recorder import Destination, Holding, ProcessHop, Recorder
from hopwatch.transports.aiokafka.headers import header_getter
from hopwatch.transports.aiokafka.places import clusters, conversation, key, offset_of, receiver_of, servers
from hopwatch.wrapping import Args, Kwargs, Patches, guarded

T = TypeVar("T")
Call = Callable[..., Awaitable[T]]
Records = dict[TopicPartition, list[ConsumerRecord]]

_IN_BATCHES: Final = 5
"""References to a record of a batch that was just got: there are two lists of them here, and what numbers them keeps one."""

_MARK: Final = "\x1f"
"""Behind what is said of a pattern, before the pattern itself."""
LOST: Final = "the partition went to another member of the group"


class Consuming:
    """The wrappers around `AIOKafkaConsumer`; `async for` goes through `getone`."""

    def __init__(self, recorder: Recorder, patches: Patches) -> None:
        self._recorder = recorder
        self._patches = patches
        self._again = Attempts()
        self._readers: WeakKeyDictionary[Any, ref[AIOKafkaConsumer]] = WeakKeyDictionary()
        self._known: Beside[dict[tuple[str, int], _Reading]] = Beside()
        self._furthest: dict[tuple[str, str, int], _Furthest] = {}
        self._holders = Holders(recorder)
        clusters.listeners.add(self)

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

    def getone(self, original: Call[ConsumerRecord]) -> Call[ConsumerRecord]:
        """Record one record; its hop ends when the task comes back for more."""

        @wraps(original)
        async def getone(consumer: AIOKafkaConsumer, *args: Any, **kwargs: Any) -> ConsumerRecord:
            if not self._patches.active:
                return await original(consumer, *args, **kwargs)
            taker = handovers.back(consumer, forget=True)
            record = await original(consumer, *args, **kwargs)
            kept = sys.getrefcount(record) - JUST_GOT  # aiokafka keeps one to the last record of a partition
            self._give(taker, consumer, record, kept)
            return record

        return getone

    def getmany(self, original: Call[Records]) -> Call[Mapping[TopicPartition, Any]]:
        """Record every record of a batch; a loop over them makes each the current one in turn."""

        @wraps(original)
        async def getmany(
            consumer: AIOKafkaConsumer, *args: Any, **kwargs: Any
        ) -> Mapping[TopicPartition, Any]:
            if not self._patches.active:
                return await original(consumer, *args, **kwargs)
            taker = handovers.back(consumer, forget=True)
            batches = await original(consumer, *args, **kwargs)
            given = {partition: Batch(batch, ends=True) for partition, batch in batches.items()}
            self._give_batches(taker, consumer, given)
            return given

        return getmany

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

    def _give(
        self, taker: Taker | None, consumer: AIOKafkaConsumer, record: ConsumerRecord, kept: int
    ) -> None:
        try:
            reading = self._reading(consumer, record.topic, record.partition)
            highwater = _highwater(consumer, reading.place)
            hop = self._begin(reading, highwater, record, attach=True)
            if taker is not None:
                handovers.give(taker, record, hop, beside=kept)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("consume", fault)

    @guarded
    def _give_batches(
        self,
        taker: Taker | None,
        consumer: AIOKafkaConsumer,
        batches: Mapping[TopicPartition, Batch[ConsumerRecord]],
    ) -> None:
        for partition, records in batches.items():
            reading = self._reading(consumer, partition.topic, partition.partition)
            highwater = _highwater(consumer, partition)
            for number, record in enumerate(list.__iter__(records)):  # its own would make hops current
                hop = self._begin(reading, highwater, record, attach=False)
                if taker is not None:
                    kept = max(0, sys.getrefcount(record) - _IN_BATCHES)
                    handovers.give(taker, record, hop, records, number, beside=kept)

    def _begin(
        self, reading: "_Reading", highwater: int | None, record: ConsumerRecord, *, attach: bool
    ) -> ProcessHop:
        offset = record.offset
        attributes: dict[str, AttributeValue] = {KAFKA_OFFSET: offset}
        if highwater is not None:
            attributes[PENDING] = highwater - offset - 1 if highwater > offset else 0
        if record.value is None:
            attributes[KAFKA_TOMBSTONE] = True
        opted = self._recorder.opted
        if opted.message_key:
            attributes |= key(record.key)
        if opted.body_size and record.serialized_value_size >= 0:
            attributes[MESSAGING_BODY_SIZE] = record.serialized_value_size
        headers = record.headers
        if headers:
            attributes |= conversation(headers)
        furthest = reading.furthest
        if offset > furthest.offset:
            furthest.offset, attempt = offset, 1
        else:  # Kafka itself does not count: as far as this process knows
            attempt = self._again.again((reading.receiver, *reading.place, offset))
        return self._recorder.process(
            "process",
            reading.destination,
            receiver=reading.receiver,
            carrier=headers,
            getter=header_getter,
            attempt=attempt,
            attributes=attributes,
            attach=attach,
            settled=reading.settled,
        )

    def forget(self) -> None:
        """Have every partition looked at anew: one may have been told before its cluster was known."""
        self._known = Beside()

    def _reading(self, consumer: AIOKafkaConsumer, topic: str, partition: int) -> "_Reading":
        """Return what is known of a partition as this consumer reads it, looked up once."""
        known = self._known.get(consumer)
        if known is None:
            known = self._known.put(consumer, {})
        reading = known.get((topic, partition))
        if reading is None:
            receiver = receiver_of(consumer, topic)
            furthest = self._furthest.setdefault((receiver, topic, partition), _Furthest())
            reading = known[topic, partition] = _Reading.of(consumer, receiver, topic, partition, furthest)
        return reading

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
        self._holders.hold(consumer, [_holding(consumer, pattern) for pattern in _patterns(consumer)])

    @guarded
    def _unsubscribed(self, consumer: AIOKafkaConsumer) -> None:
        """A group keeps its claims while it is away; a reader on its own does not."""
        self._holders.release(consumer)


def _holding(consumer: AIOKafkaConsumer, pattern: str) -> Holding:
    """Return what a consumer is entitled to of a topic; its group's broker lists it as a member once it has joined."""
    return Holding(
        pattern,
        receiver_of(consumer, pattern.rpartition(_MARK)[2]),
        consumer._group_id is not None,
        servers.broker_of(consumer._client),
        getattr(consumer._coordinator, "member_id", ""),
    )


def _patterns(consumer: AIOKafkaConsumer) -> set[str]:
    """Return the topics subscribed to, or the partitions assigned by hand: others of their topics are not this consumer's."""
    if consumer._subscription.partitions_auto_assigned():
        return set(consumer.subscription() or ())
    return {f"partition {one.partition}{_MARK}{one.topic}" for one in consumer.assignment()}


@dataclass(slots=True)
class _Furthest:
    """How far this process has read a partition for a receiver, with whatever consumer."""

    offset: int = -1


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is the same for all records of one partition that a consumer gives."""

    destination: Destination
    place: TopicPartition
    receiver: str
    settled: SettleOutcome | None
    furthest: _Furthest

    @classmethod
    def of(
        cls, consumer: AIOKafkaConsumer, receiver: str, topic: str, partition: int, furthest: _Furthest
    ) -> Self:
        """Look at a consumer once."""
        group: str | None = consumer._group_id
        said: dict[str, AttributeValue] = {
            **servers.of(consumer._client),
            MESSAGING_DESTINATION_PARTITION_ID: str(partition),
        }
        if group is not None:
            said[MESSAGING_CONSUMER_GROUP_NAME] = group
        settled = SettleOutcome.AUTO if group is None else None
        return cls(
            Destination(topic, topic, said), TopicPartition(topic, partition), receiver, settled, furthest
        )


def _highwater(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    state = assignment.state_value(partition) if assignment is not None else None
    highwater: int | None = state.highwater if state is not None else None
    return highwater
