"""What may happen to any broker and its witness: restarts, refusals, a collector that was away."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from functools import partial

import aio_pika
import nats
import pytest
from courses import Course, Receivers, collector_away, restarted
from nats.js.api import ConsumerConfig, StreamConfig

from hopwatch.transports.aio_pika import AioPikaInstrumentor
from hopwatch.transports.nats import NatsInstrumentor
from hopwatch_collector.witness.nats import NatsWitness
from hopwatch_collector.witness.rabbitmq import RabbitMQWitness
from hopwatch_demo.brokers import Brokers
from hopwatch_demo.patience import scale_wait

SUBJECTS = "orders.>"


@pytest.fixture
async def own() -> AsyncIterator[Brokers]:
    """A NATS server of this test's own, to be stopped and started."""
    brokers = await asyncio.to_thread(Brokers.start, ["nats"], environ={})
    yield brokers
    await asyncio.to_thread(brokers.close)


async def durable(url: str, *names: str) -> None:
    """Make the stream and these durables."""
    client = await nats.connect(url, connect_timeout=scale_wait(20))
    await client.jetstream(timeout=scale_wait(10)).add_stream(
        StreamConfig(name="ORDERS", subjects=[SUBJECTS])
    )
    for name in names:
        await client.jetstream(timeout=scale_wait(10)).add_consumer(
            "ORDERS", ConsumerConfig(durable_name=name, ack_policy="explicit")
        )
    await client.close()


async def publish(stage, url: str, names: str) -> None:
    """Publish one message per letter, each acknowledged by the stream."""
    client = await nats.connect(url, connect_timeout=scale_wait(20))
    for name in names:
        with stage.named(name):
            await client.jetstream(timeout=scale_wait(10)).publish("orders.new", name.encode())
    await client.close()


async def read(url: str, receiver: str, count: int) -> list[str]:
    """Have a durable fetch and acknowledge so many; its own record of them."""
    client = await nats.connect(url, connect_timeout=scale_wait(20))
    stream, _, name = receiver.partition("/")
    subscription = await client.jetstream(timeout=scale_wait(10)).pull_subscribe_bind(name, stream=stream)
    got = []
    for message in await subscription.fetch(count, timeout=scale_wait(20)):
        got.append(message.data.decode())
        await message.ack_sync()
    await client.close()
    return got


async def delete(url: str, name: str) -> None:
    """Delete a durable with all it had not read."""
    client = await nats.connect(url, connect_timeout=scale_wait(20))
    await client.jetstream(timeout=scale_wait(10)).delete_consumer("ORDERS", name)
    await client.close()


@pytest.mark.nats
@pytest.mark.scenario(39, "Any: broker restarted in mid-flight")
async def test_restarted_in_mid_flight(stage, own: Brokers) -> None:
    """What JetStream kept over a crash still waits."""
    url = own.nats.url
    one = stage(NatsWitness(url, own.nats.monitoring_url), NatsInstrumentor())
    await durable(url, "billing")
    await one.observe()
    course = Course(one, partial(publish, one, url), partial(read, url))
    await restarted(
        course, "ORDERS/billing", partial(own.stop, "nats", hard=True), partial(own.restart, "nats")
    )


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
    needs = "the witness needs a user with the tag `monitoring` and a permission on the virtual host"
    assert told["a", unique].reason.startswith("the broker cannot be asked: RabbitMQ at ")
    assert "login refused" in told["a", unique].reason
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
    """Consumers' positions and missing ones tell a collector that comes back what happened to messages meanwhile."""
    url = own.nats.url
    one = stage(NatsWitness(url, own.nats.monitoring_url), NatsInstrumentor())
    await durable(url, "billing", "legacy", "audit")
    await one.observe()
    await collector_away(
        Course(one, partial(publish, one, url), partial(read, url)),
        Receivers("ORDERS/billing", "ORDERS/legacy", "ORDERS/audit"),
        partial(delete, url, "audit"),
        partial(NatsWitness, url, own.nats.monitoring_url),
        # An acknowledgement looks like a termination to whoever did not hear the server say which it was.
        silent="unknown",
    )
