"""What may happen to any broker and its witness: restarts, refusals, a collector that was away."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import aio_pika
import nats
import pytest
from nats.js.api import ConsumerConfig, StreamConfig
from scenario_support import watching

from hopwatch.transports.aio_pika import AioPikaInstrumentor
from hopwatch.transports.nats import NatsInstrumentor
from hopwatch_collector.witness.nats import NatsWitness
from hopwatch_collector.witness.rabbitmq import RabbitMQWitness
from hopwatch_demo.brokers import Brokers

SUBJECTS = "orders.>"


@pytest.fixture
async def own() -> AsyncIterator[Brokers]:
    """A NATS server of this test's own, to be stopped and started."""
    brokers = await asyncio.to_thread(Brokers.start, ["nats"], environ={})
    yield brokers
    await asyncio.to_thread(brokers.close)


async def durable(url: str, *names: str) -> None:
    """Make the stream and these durables."""
    client = await nats.connect(url)
    await client.jetstream().add_stream(StreamConfig(name="ORDERS", subjects=[SUBJECTS]))
    for name in names:
        await client.jetstream().add_consumer(
            "ORDERS", ConsumerConfig(durable_name=name, ack_policy="explicit")
        )
    await client.close()


async def publish(stage, url: str, names: str) -> None:
    """Publish one message per letter, each acknowledged by the stream."""
    client = await nats.connect(url)
    for name in names:
        with stage.named(name):
            await client.jetstream().publish("orders.new", name.encode())
    await client.close()


async def read(url: str, durable: str, count: int) -> list[str]:
    """Have a durable fetch and acknowledge so many; its own record of them."""
    client = await nats.connect(url)
    subscription = await client.jetstream().pull_subscribe_bind(durable, stream="ORDERS")
    got = []
    for message in await subscription.fetch(count, timeout=10):
        got.append(message.data.decode())
        await message.ack_sync()
    await client.close()
    return got


@pytest.mark.nats
@pytest.mark.scenario(39, "Any: broker restarted in mid-flight")
async def test_restarted_in_mid_flight(stage, own: Brokers) -> None:
    """What the broker kept over its restart still waits; while it is down the witness says so, then it looks again."""
    one = stage(NatsWitness(own.nats.url, own.nats.monitoring_url), NatsInstrumentor())
    await durable(own.nats.url, "billing")
    await one.observe()
    await publish(one, own.nats.url, "abc")
    assert await read(own.nats.url, "billing", 1) == ["a"]
    billing = "ORDERS/billing"
    before = {("a", billing): "settled", ("b", billing): "waiting", ("c", billing): "waiting"}
    await one.judged(before, broker=[("b", billing)])
    await asyncio.to_thread(own.stop, "nats", hard=True)
    await one.observe()
    assert one.watch.trouble is not None
    assert one.watch.trouble.startswith(f"NATS at {one.watch.broker}: ")
    await asyncio.to_thread(own.restart, "nats")
    assert await read(own.nats.url, "billing", 1) == ["b"]
    await one.judged({**before, ("b", billing): "settled"}, broker=[("c", billing)])
    assert one.watch.trouble is None


@pytest.mark.scenario(40, "Any: witness without permission")
async def test_without_permission(stage, brokers: Brokers, rabbitmq_url: str, unique: str) -> None:
    """A witness that is refused is shown with what it needs, and what needed it is unknown, naming it."""
    refused = brokers.rabbitmq.management_url.replace("guest:guest", "guest:wrong")
    one = stage(RabbitMQWitness(refused), AioPikaInstrumentor())
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(unique)
        with one.named("a"):
            await channel.default_exchange.publish(aio_pika.Message(b"a"), routing_key=unique)
        told = await one.judged({("a", unique): "unknown"}, deadline_s=1.0)
        await queue.delete(if_unused=False, if_empty=False)
    needs = "login refused: the witness needs a user with the tag `monitoring`"
    assert told["a", unique].reason.startswith("the broker cannot be asked: RabbitMQ at ")
    assert told["a", unique].reason.endswith(needs)
    assert one.watch.trouble is not None
    assert one.watch.trouble.endswith(needs)


@pytest.fixture
def unique() -> str:
    """A queue's name that nobody else uses."""
    return f"q{uuid.uuid4().hex}"


@pytest.mark.nats
@pytest.mark.scenario(41, "Any: collector down for a while")
async def test_collector_down(stage, own: Brokers) -> None:
    """A collector that comes back learns what happened meanwhile: what was read, what was not, and who is gone."""
    one = stage(NatsWitness(own.nats.url, own.nats.monitoring_url), NatsInstrumentor())
    await durable(own.nats.url, "billing", "audit")
    await one.observe()
    await publish(one, own.nats.url, "ab")
    billing, audit = "ORDERS/billing", "ORDERS/audit"
    waiting = {(name, receiver): "waiting" for name in "ab" for receiver in (billing, audit)}
    await one.judged(waiting)
    await one.watch._witness.close()
    # Nobody watches, and spans wait at their senders.
    with one.unseen():
        assert await read(own.nats.url, "billing", 1) == ["a"]
    client = await nats.connect(own.nats.url)
    await client.jetstream().delete_consumer("ORDERS", "audit")
    await client.close()
    one.watch = watching(NatsWitness(own.nats.url, own.nats.monitoring_url), one.store)
    expected = {
        ("a", billing): "settled", ("b", billing): "waiting", ("a", audit): "lost", ("b", audit): "lost",
    }  # fmt: skip
    await one.judged(expected, broker=list(expected))
    await one.watch._witness.close()
