"""A shop on Kafka for scenarios: real producers and consumers on a topic of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from scenario_support import Stage


@asynccontextmanager
async def administering(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for what only an administrator does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


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
