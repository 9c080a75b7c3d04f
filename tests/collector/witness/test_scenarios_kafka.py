"""What becomes of Kafka records, with the cluster's own word for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from scenario_support import Stage

from hopwatch.transports.aiokafka import AioKafkaInstrumentor
from hopwatch_collector.witness.kafka import KafkaWitness


@dataclass
class Shop:
    """Producers and consumers of one scenario, on a topic of its own."""

    stage: Stage
    bootstrap: str

    @property
    def topic(self) -> str:
        return self.stage.unique

    async def send(self, *names: str) -> None:
        """Send one record per name, each confirmed."""
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            for name in names:
                with self.stage.named(name):
                    await producer.send_and_wait(self.topic, name.encode())

    @asynccontextmanager
    async def group(self, group: str, **options: object) -> AsyncIterator[AIOKafkaConsumer]:
        """A member of a group, which reads from the start."""
        told = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **options}
        consumer = AIOKafkaConsumer(self.topic, bootstrap_servers=self.bootstrap, group_id=group, **told)
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    async def read(self, group: str, count: int, *, commit: bool = True) -> list[str]:
        """Have a group read and commit so many records one by one; return the services' own record of them."""
        got = []
        async with self.group(group) as consumer:
            for _ in range(count):
                record = await consumer.getone()
                got.append(record.value.decode())
                if commit:
                    await consumer.commit({TopicPartition(record.topic, record.partition): record.offset + 1})
        return got


@pytest.fixture
def shop(stage, kafka_bootstrap: str) -> Shop:
    """A shop on Kafka with its witness."""
    return Shop(stage(KafkaWitness(kafka_bootstrap), AioKafkaInstrumentor()), kafka_bootstrap)


@pytest.mark.scenario(1, "Kafka: consumed and committed")
async def test_consumed_and_committed(shop: Shop) -> None:
    """A record that a group processed and committed past is settled."""
    await shop.send("a", "b")
    assert await shop.read("billing", 2) == ["a", "b"]
    await shop.stage.judged(
        {("a", "billing"): "settled", ("b", "billing"): "settled"}, broker=[("a", "billing")]
    )


@pytest.mark.scenario(2, "Kafka: group behind")
async def test_group_behind(shop: Shop) -> None:
    """What a group has not read yet waits, and is overdue after its deadline; the broker is a witness."""
    await shop.send("a", "b", "c")
    assert await shop.read("billing", 1) == ["a"]
    behind = {("a", "billing"): "settled", ("b", "billing"): "waiting", ("c", "billing"): "waiting"}
    await shop.stage.judged(behind, broker=[("b", "billing")])
    late = {pair: "overdue" if verdict == "waiting" else verdict for pair, verdict in behind.items()}
    await shop.stage.judged(late, deadline_s=0.5)


@pytest.mark.scenario(12, "Kafka: topic without groups")
async def test_topic_without_groups(shop: Shop) -> None:
    """A record on a topic that no group reads has no receiver, and the broker says so too."""
    await shop.send("a")
    await shop.stage.judged({("a", ""): "no_receiver"}, broker=[("a", "")])
