"""The shop over Kafka: a topic per kind, a consumer group per receiver, commits by hand."""

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar, Final, Self

from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    TopicPartition,
)
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from hopwatch_demo.catalogue import DEAD, KINDS, REWARD, Broker, Kind
from hopwatch_demo.faults import SKIP_AFTER
from hopwatch_demo.patience import scale_wait
from hopwatch_demo.shop.messaging.bus import RETRY_S, Bus, Desk, Done, Handler, Incoming, Letter, Sent
from hopwatch_demo.truth import Act

PARTITIONS: Final = {REWARD: 1}
"""Topics have two partitions, but one where loyalty waits for the next record: nothing may lie behind it unread."""


DELETED_WITHIN_S: Final = 15.0


def topic(kind: Kind) -> str:
    """Return the topic that carries a kind of message."""
    return f"shop.{kind.name}"


async def prepare(url: str) -> None:
    """Create the topics, empty; those of an earlier run go, with their groups' offsets.

    Raises:
        TimeoutError: an earlier run's topics are not gone after 15 s.
        KafkaError: the broker refuses to create one.
    """
    wanted = {topic(kind): PARTITIONS.get(kind, 2) for kind in KINDS if Broker.KAFKA in kind.brokers}
    admin = AIOKafkaAdminClient(bootstrap_servers=url)
    await admin.start()
    try:
        if left := wanted.keys() & set(await admin.list_topics()):
            await admin.delete_topics(sorted(left))
        async with asyncio.timeout(scale_wait(DELETED_WITHIN_S)):
            while wanted := await _create(admin, wanted):  # noqa: ASYNC110 — the broker is asked
                await asyncio.sleep(RETRY_S)
    finally:
        await admin.close()


async def _create(admin: Any, wanted: dict[str, int]) -> dict[str, int]:
    """Create topics with their numbers of partitions; return those that are still being deleted."""
    answer = await admin.create_topics([NewTopic(name, count, 1) for name, count in wanted.items()])
    errors = {name: for_code(code) for name, code, *_ in answer.topic_errors if code}
    for name, error in errors.items():
        if error is not TopicAlreadyExistsError:
            raise error(name)
    return {name: wanted[name] for name in errors}


class KafkaBus(Bus):
    """A producer, and a consumer for each kind the service listens to."""

    broker: ClassVar[Broker] = Broker.KAFKA

    def __init__(self, desk: Desk, url: str, producer: Any) -> None:
        super().__init__(desk)
        self._url = url
        self._producer = producer
        self._consumers: list[Any] = []

    @classmethod
    async def connect(cls, url: str, desk: Desk) -> Self:
        """Start the producer."""
        producer = AIOKafkaProducer(bootstrap_servers=url, client_id=desk.service, enable_idempotence=True)
        await producer.start()
        return cls(desk, url, producer)

    async def publish(self, kind: Kind, letter: Letter) -> Sent:
        """Send and await the record's place."""
        placed = await self._producer.send_and_wait(topic(kind), letter.encode(), key=letter.order.encode())
        return Sent("confirmed", placed.partition, placed.offset)

    async def reply(self, kind: Kind, letter: Letter, incoming: Incoming) -> Sent:
        """Send to the topic of answers."""
        return await self.publish(kind, letter)

    async def listen(self, kind: Kind, handler: Handler) -> Coroutine[Any, Any, None]:
        """Join the receiver's group as its one static member, so that a restart takes over where it was."""
        consumer, receiver = await self._join(kind)
        return self._keep_reading(consumer, kind, receiver, handler)

    async def listen_carelessly(self, kind: Kind, handler: Handler) -> Coroutine[Any, Any, None]:
        """Listen, but commit past one record unread after every few."""
        consumer, receiver = await self._join(kind)
        return self._keep_skipping(consumer, kind, receiver, handler)

    async def close(self) -> None:
        """Leave the groups and flush the producer."""
        for consumer in self._consumers:
            await consumer.stop()
        await self._producer.stop()

    async def _join(self, kind: Kind) -> tuple[Any, str]:
        receiver = f"{self.desk.service}.{kind.name}"
        consumer = AIOKafkaConsumer(
            topic(kind),
            bootstrap_servers=self._url,
            client_id=self.desk.service,
            group_id=receiver,
            group_instance_id=receiver,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        self._consumers.append(consumer)
        while not consumer.assignment():  # noqa: ASYNC110 — aiokafka offers no event to wait for
            await asyncio.sleep(RETRY_S)
        self.listening(kind, receiver)
        return consumer, receiver

    async def _keep_reading(self, consumer: Any, kind: Kind, receiver: str, handler: Handler) -> None:
        while True:
            await self.desk.gate.passed()
            await self._attempt(consumer, kind, receiver, handler)

    async def _keep_skipping(self, consumer: Any, kind: Kind, receiver: str, handler: Handler) -> None:
        while True:
            for _ in range(SKIP_AFTER):
                await self.desk.gate.passed()
                partition, following = await self._attempt(consumer, kind, receiver, handler)
            await self._pass_over(consumer, kind, receiver, partition, following)

    async def _attempt(
        self, consumer: Any, kind: Kind, receiver: str, handler: Handler
    ) -> tuple[TopicPartition, int]:
        """Read one record, handle and commit it; return its partition and the offset after it."""
        record = await consumer.getone()
        letter = Letter.decode(record.value)
        self.received(kind, letter, receiver)
        done = await handler(Incoming(self.broker, letter))
        if done is Done.POISON:
            await self.send(DEAD, letter.order)
        self.settling(kind, letter, receiver, "commit")
        partition = TopicPartition(record.topic, record.partition)
        await consumer.commit({partition: record.offset + 1})
        return partition, record.offset + 1

    async def _pass_over(
        self, consumer: Any, kind: Kind, receiver: str, partition: TopicPartition, offset: int
    ) -> None:
        """Wait until there is a record at `offset`, then commit past it without reading it."""
        while (await consumer.end_offsets([partition]))[partition] <= offset:  # noqa: ASYNC110 — the broker is asked
            await asyncio.sleep(RETRY_S)
        await self.desk.gate.passed()
        self.desk.record.write(
            Act.PASSED,
            kind=kind.name,
            broker=self.broker,
            receiver=receiver,
            partition=partition.partition,
            offset=offset,
        )
        consumer.seek(partition, offset + 1)
        await consumer.commit({partition: offset + 1})
