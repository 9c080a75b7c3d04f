"""Two hundred messages of mixed fates among a hundred thousand: each is found, and none other."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StreamConfig
from nats.js.errors import NoStreamResponseError
from scenario_support import Stage

from hopwatch.transports.nats import NatsInstrumentor
from hopwatch_collector.witness.nats import NatsWitness
from hopwatch_demo.patience import scale_wait

MESSAGES: Final = 100_000
OF_EACH: Final = 50
AT_ONCE: Final = 2_000
FATES: Final = {
    "term": "dead_lettered",
    "giveup": "dead_lettered",
    "nowhere": "returned",
    "unread": "overdue",
}


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    """A client of the server."""
    connected = await nats.connect(nats_url, pending_size=64 * 2**20, connect_timeout=scale_wait(20))
    yield connected
    await connected.close()


async def send_many(js: JetStreamContext, subject: str, count: int) -> None:
    """Publish so many messages, a few thousand on their way at a time, each acknowledged."""
    for start in range(0, count, AT_ONCE):
        await asyncio.gather(*(js.publish(subject, b"fine") for _ in range(min(AT_ONCE, count - start))))


async def send_fates(stage: Stage, js: JetStreamContext, subject: str, fate: str) -> None:
    """Publish the messages of one fate."""
    for number in range(OF_EACH):
        with stage.named(f"{fate}{number}"):
            await js.publish(subject, fate.encode())


async def handle(js: JetStreamContext, stream: str, count: int) -> dict[str, int]:
    """Take so many messages from the durable, and do with each what its fate says; the handler's own record."""
    subscription = await js.pull_subscribe_bind("billing", stream=stream)
    record: dict[str, int] = {}
    while sum(record.values()) < count:
        for message in await subscription.fetch(500, timeout=scale_wait(20)):
            fate = message.data.decode()
            record[fate] = record.get(fate, 0) + 1
            await {"fine": message.ack, "term": message.term, "giveup": message.nak}[fate]()
    return record


@pytest.mark.timeout(400)
@pytest.mark.scenario(42, "Any: 200 of mixed fates among 100,000 messages")
async def test_each_of_the_200_is_found_and_none_other(stage, brokers, client: Client, nats_url: str) -> None:
    """Terminated, given up, returned and unread ones are all there is undelivered, each with its own verdict."""
    one: Stage = stage(NatsWitness(nats_url, brokers.nats.monitoring_url), NatsInstrumentor())
    js = client.jetstream(timeout=scale_wait(60))
    subject = f"{one.unique}.orders"
    await js.add_stream(StreamConfig(name=one.unique, subjects=[f"{one.unique}.>"], storage="memory"))
    durable = ConsumerConfig(durable_name="billing", ack_policy="explicit", max_deliver=1, max_ack_pending=-1)
    await js.add_consumer(one.unique, durable)
    await one.observe()

    fine = MESSAGES - len(FATES) * OF_EACH
    await send_many(js, subject, fine // 2)
    await send_fates(one, js, subject, "term")
    await send_fates(one, js, subject, "giveup")
    await send_many(js, subject, fine - fine // 2)
    for number in range(OF_EACH):
        with one.named(f"nowhere{number}"), pytest.raises(NoStreamResponseError):
            await js.publish(f"{one.unique}-nowhere", b"nowhere")
    assert await handle(js, one.unique, fine + 2 * OF_EACH) == {
        "fine": fine,
        "term": OF_EACH,
        "giveup": OF_EACH,
    }
    await send_fates(one, js, subject, "unread")

    receiver = f"{one.unique}/billing"
    expected = {
        (f"{fate}{number}", "" if fate == "nowhere" else receiver): verdict
        for fate, verdict in FATES.items()
        for number in range(OF_EACH)
    }
    await one.judged(expected, undelivered=True, deadline_s=1.0, within_s=120)
    await js.delete_stream(one.unique)
