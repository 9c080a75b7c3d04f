"""Streams, durables, senders and readers of one NATS scenario."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StreamConfig
from scenario_support import Stage

from hopwatch.transports.nats import NatsInstrumentor
from hopwatch_collector.witness.nats import NatsWitness
from hopwatch_demo.patience import scale_wait


@dataclass
class Shop:
    """Streams, durables, senders and readers of one scenario, under names of their own."""

    stage: Stage
    client: Client
    js: JetStreamContext

    @property
    def subject(self) -> str:
        return f"{self.stage.unique}.orders"

    async def stream(self, **config: object) -> None:
        """Make the scenario's stream."""
        name = self.stage.unique
        await self.js.add_stream(StreamConfig(name=name, subjects=[f"{name}.>"], **config))  # type: ignore[arg-type]

    async def durable(self, name: str, **config: object) -> str:
        """Make a durable consumer; how the ledger spells it."""
        told = ConsumerConfig(durable_name=name, ack_policy="explicit", **config)  # type: ignore[arg-type]
        await self.js.add_consumer(self.stage.unique, told)
        return f"{self.stage.unique}/{name}"

    async def send(self, names: str, **options: object) -> None:
        """Publish one message per letter into the stream, each acknowledged."""
        for name in names:
            with self.stage.named(name):
                await self.js.publish(self.subject, name.encode(), **options)  # type: ignore[arg-type]

    async def read(self, durable: str, count: int, settle: str = "ack", **options: object) -> list[str]:
        """Have a durable fetch so many and settle each; its own record of them."""
        subscription = await self.js.pull_subscribe_bind(durable, stream=self.stage.unique)
        got = []
        for message in await subscription.fetch(count, timeout=scale_wait(20)):
            got.append(message.data.decode())
            await getattr(message, settle)(**options)
        await subscription.unsubscribe()
        return got


@pytest.fixture
async def shop(stage, brokers, nats_url: str) -> AsyncIterator[Shop]:
    """A shop on NATS with its witness."""
    one = stage(NatsWitness(nats_url, brokers.nats.monitoring_url), NatsInstrumentor())
    client = await nats.connect(nats_url, connect_timeout=scale_wait(20))
    await one.observe()
    yield Shop(one, client, client.jetstream(timeout=scale_wait(10)))
    with one.unseen():
        for stream in await client.jetstream(timeout=scale_wait(10)).streams_info():
            if str(stream.config.name).startswith(one.unique):
                await client.jetstream(timeout=scale_wait(10)).delete_stream(str(stream.config.name))
    await client.close()
