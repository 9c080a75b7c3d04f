"""What becomes of NATS messages, with the server's own word for it."""

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
        for message in await subscription.fetch(count, timeout=10):
            got.append(message.data.decode())
            await getattr(message, settle)(**options)
        await subscription.unsubscribe()
        return got


@pytest.fixture
async def shop(stage, brokers, nats_url: str) -> AsyncIterator[Shop]:
    """A shop on NATS with its witness."""
    one = stage(NatsWitness(nats_url, brokers.nats.monitoring_url), NatsInstrumentor())
    client = await nats.connect(nats_url)
    await one.observe()
    yield Shop(one, client, client.jetstream())
    with one.unseen():
        for stream in await client.jetstream().streams_info():
            if stream.config.name == one.unique:
                await client.jetstream().delete_stream(one.unique)
    await client.close()


@pytest.mark.scenario(28, "NATS: plain publish without a subscriber")
async def test_nobody_subscribed(shop: Shop) -> None:
    """A message to a subject that nobody is subscribed to has no receiver, and the server says so too."""
    with shop.stage.named("a"):
        await shop.client.publish(shop.subject, b"a")
    await shop.client.flush()
    await shop.stage.judged({("a", ""): "no_receiver"}, broker=[("a", "")])


@pytest.mark.scenario(30, "NATS: two durables, one behind")
async def test_two_durables(shop: Shop) -> None:
    """Each durable has its own verdict: what one has not read yet waits for it, says the server."""
    await shop.stream()
    billing, audit = await shop.durable("billing"), await shop.durable("audit")
    await shop.send("ab")
    assert await shop.read("billing", 2) == ["a", "b"]
    assert await shop.read("audit", 1) == ["a"]
    expected = {
        ("a", billing): "settled", ("b", billing): "settled", ("a", audit): "settled", ("b", audit): "waiting",
    }  # fmt: skip
    await shop.stage.judged(expected, broker=[("b", audit)])


@pytest.mark.scenario(31, "NATS: deliveries used up")
async def test_max_deliveries(shop: Shop) -> None:
    """A message given back until its consumer's deliveries are used up is dead-lettered, says the server's advisory."""
    await shop.stream()
    billing = await shop.durable("billing", max_deliver=2)
    await shop.stage.observe()
    await shop.send("a")
    assert await shop.read("billing", 1, settle="nak") == ["a"]
    assert await shop.read("billing", 1, settle="nak") == ["a"]
    with pytest.raises(nats.errors.TimeoutError):
        await shop.read("billing", 1)
    told = await shop.stage.judged({("a", billing): "dead_lettered"})
    assert told["a", billing].attempts == 2
    assert "broker" in told["a", billing].witnesses


@pytest.mark.scenario(34, "NATS: stream limit discards unread messages")
async def test_stream_limit(shop: Shop) -> None:
    """What a stream's limit pushed out before a durable read it is evicted for that durable."""
    await shop.stream(max_msgs=2)
    billing = await shop.durable("billing")
    await shop.send("abcd")
    expected = {
        ("a", billing): "evicted",
        ("b", billing): "evicted",
        ("c", billing): "waiting",
        ("d", billing): "waiting",
    }
    await shop.stage.judged(expected)


@pytest.mark.scenario(37, "NATS: consumer deleted with messages pending")
async def test_consumer_deleted(shop: Shop) -> None:
    """What a deleted durable had not read is lost to it."""
    await shop.stream()
    billing = await shop.durable("billing")
    await shop.send("a")
    await shop.stage.judged({("a", billing): "waiting"})
    await shop.js.delete_consumer(shop.stage.unique, "billing")
    await shop.stage.judged({("a", billing): "lost"})
