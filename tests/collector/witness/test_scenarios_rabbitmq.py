"""What becomes of AMQP messages, with RabbitMQ's own word for it."""

import asyncio
from contextlib import suppress

import aio_pika
import pytest
from aio_pika.abc import AbstractQueue
from aiormq.exceptions import AMQPError, DeliveryError
from rabbitmq_shop import Shop, shop
from scenario_support import until
from wire import wired

from hopwatch_demo.patience import scale_wait

__all__ = ["shop"]


@pytest.mark.scenario(14, "RabbitMQ: acknowledged")
async def test_acknowledged(shop: Shop) -> None:
    """An acknowledged message is settled."""
    billing = await shop.queue("billing")
    await shop.send("ab", billing)
    assert await shop.read(billing, 2) == ["a", "b"]
    await shop.stage.judged({("a", billing.name): "settled", ("b", billing.name): "settled"})


@pytest.mark.scenario(16, "RabbitMQ: time to live over")
async def test_expired(shop: Shop) -> None:
    """A message whose time to live ended in a queue without a dead-letter exchange has expired."""
    brief = await shop.queue("brief", x_message_ttl=200)
    await shop.send("a", brief)
    await shop.stage.judged({("a", brief.name): "expired"}, broker=[("a", brief.name)])


@pytest.mark.scenario(22, "RabbitMQ: fan-out to three queues, one without consumers")
async def test_fan_out(shop: Shop) -> None:
    """Each queue has its own verdict: two settled, one still waiting in the queue, says the broker."""
    fan = await shop.exchange("fan", "fanout")
    queues = [await shop.queue(name) for name in ("one", "two", "three")]
    for queue in queues:
        await queue.bind(fan)
    await shop.send("a", fan)
    for queue in queues[:2]:
        assert await shop.read(queue, 1) == ["a"]
    one, two, three = (queue.name for queue in queues)
    expected = {("a", one): "settled", ("a", two): "settled", ("a", three): "overdue"}
    await shop.stage.judged(expected, deadline_s=1.0, broker=[("a", three)])


@pytest.mark.scenario(25, "RabbitMQ: queue purged")
async def test_purged(shop: Shop) -> None:
    """Messages purged from their queue are lost, and the broker's counters tell."""
    billing = await shop.queue("billing")
    await shop.send("ab", billing)
    await shop.stage.judged({("a", billing.name): "waiting", ("b", billing.name): "waiting"})
    await billing.purge()
    told = await shop.stage.judged({("a", billing.name): "lost", ("b", billing.name): "lost"})
    assert (
        told["a", billing.name].reason == "the queue no longer holds it, and counted nobody it was handed to"
    )


async def dead_lettering(shop: Shop, **limits: object) -> tuple[AbstractQueue, AbstractQueue]:
    """A queue whose rejects go to another."""
    graves = await shop.exchange("graves", "fanout")
    dead = await shop.queue("dead")
    await dead.bind(graves)
    return await shop.queue("billing", x_dead_letter_exchange=graves.name, **limits), dead


@pytest.mark.scenario(15, "RabbitMQ: rejected, dead-lettered")
async def test_dead_lettered(shop: Shop) -> None:
    """A rejected message is dead-lettered: by the queue's exchange before anyone reads the copy, with its reason after."""
    billing, dead = await dead_lettering(shop)
    await shop.send("a", billing)
    assert await shop.read(billing, 1, lambda message: message.reject(requeue=False)) == ["a"]
    told = await shop.stage.judged({("a", billing.name): "dead_lettered"})
    assert told["a", billing.name].reason == "rejected, and the queue has a dead-letter exchange"
    assert await shop.read(dead, 1) == ["a"]
    told = await shop.stage.judged({("a", billing.name): "dead_lettered", ("a", dead.name): "settled"})
    assert told["a", billing.name].reason == "dead-lettered: rejected"


@pytest.mark.scenario(17, "RabbitMQ: queue too long")
async def test_overflow(shop: Shop) -> None:
    """What a full queue pushed out at its head is evicted; nobody had read it."""
    short = await shop.queue("short", x_max_length=1)
    await shop.send("a", short)
    await shop.stage.observe()
    await shop.send("b", short)
    got = await shop.read(short, 1)
    assert got == ["b"]
    told = await shop.stage.judged({("a", short.name): "evicted", ("b", short.name): "settled"})
    assert "broker" in told["a", short.name].witnesses


@pytest.mark.scenario(18, "RabbitMQ: delivery limit of a quorum queue")
async def test_delivery_limit(shop: Shop) -> None:
    """A message given back until its queue's delivery limit is dead-lettered, with every attempt counted."""
    billing, dead = await dead_lettering(shop, x_queue_type="quorum", x_delivery_limit=1)
    await shop.send("a", billing)
    assert await shop.read(billing, 2, lambda message: message.nack(requeue=True)) == ["a", "a"]
    assert await shop.read(dead, 1) == ["a"]
    told = await shop.stage.judged({("a", billing.name): "dead_lettered", ("a", dead.name): "settled"})
    assert told["a", billing.name].attempts == 2
    assert told["a", billing.name].reason == "dead-lettered: delivery_limit"


@pytest.mark.scenario(19, "RabbitMQ: unroutable, mandatory")
async def test_unroutable_mandatory(shop: Shop) -> None:
    """A mandatory message that matches no binding comes back."""
    topics = await shop.exchange("topics", "topic")
    await shop.send("a", topics, "nobody.listens")
    told = await shop.stage.judged({("a", ""): "returned"})
    assert told["a", ""].reason == "there was nowhere to route it: 312 NO_ROUTE"


@pytest.mark.scenario(20, "RabbitMQ: unroutable, not mandatory")
async def test_unroutable(shop: Shop) -> None:
    """One that is not mandatory is confirmed and thrown away: it has no receiver, says the broker."""
    topics = await shop.exchange("topics", "topic")
    other = await shop.queue("other")
    await other.bind(topics, "somebody.#")
    with shop.stage.named("a"):
        await topics.publish(aio_pika.Message(b"a"), routing_key="nobody.listens", mandatory=False)
    await shop.stage.judged({("a", ""): "no_receiver"}, broker=[("a", "")])


@pytest.mark.scenario(23, "RabbitMQ: consumer dies before it acknowledged")
async def test_redelivered(shop: Shop, rabbitmq_url: str) -> None:
    """What a lost consumer had not acknowledged comes again: two attempts of one delivery."""
    billing = await shop.queue("billing")
    await shop.send("a", billing)
    async with await aio_pika.connect(rabbitmq_url) as doomed:
        queue = await (await doomed.channel()).get_queue(billing.name)
        message = await queue.get(timeout=scale_wait(20))
        assert message is not None
        assert message.body == b"a"
    assert await shop.read(billing, 1) == ["a"]
    told = await shop.stage.judged({("a", billing.name): "settled"})
    assert told["a", billing.name].attempts == 2


@pytest.mark.scenario(24, "RabbitMQ: given back again and again")
async def test_requeue_loop(shop: Shop) -> None:
    """A message that is given back in a loop waits, and shows how often it was tried."""
    billing = await shop.queue("billing")
    await shop.send("a", billing)
    assert await shop.read(billing, 5, lambda message: message.nack(requeue=True)) == ["a"] * 5
    told = await shop.stage.judged({("a", billing.name): "overdue"}, deadline_s=0.5)
    assert told["a", billing.name].attempts == 5


@pytest.mark.scenario(26, "RabbitMQ: publisher confirm refused")
async def test_confirm_refused(shop: Shop) -> None:
    """A full queue that rejects publishes refuses the message; the sender is told, and so is the ledger."""
    full = await shop.queue("full", x_max_length=1, x_overflow="reject-publish")
    await shop.send("a", full)
    with pytest.raises(DeliveryError):
        await shop.send("b", full)
    await shop.stage.judged({("a", full.name): "waiting", ("b", ""): "refused"}, broker=[("a", full.name)])


@pytest.mark.scenario(27, "RabbitMQ: connection cut before the confirm")
async def test_cut_before_the_confirm(shop: Shop, rabbitmq_url: str) -> None:
    """Nobody knows what became of it until somebody receives it: then that is what became of it."""
    billing = await shop.queue("billing")

    async def arrived() -> bool:
        return (await billing.declare()).message_count == 1

    async with wired(rabbitmq_url) as (wire, url):
        connection = await aio_pika.connect(url)
        channel = await connection.channel(publisher_confirms=True)
        wire.muted = True
        with shop.stage.named("a"):
            sending = asyncio.create_task(
                channel.default_exchange.publish(aio_pika.Message(b"a"), routing_key=billing.name)
            )
        await until(arrived, "the message to arrive")
        wire.cut()
        with pytest.raises((ConnectionError, AMQPError)):
            await sending
        with suppress(ConnectionError, AMQPError):
            await connection.close()
    await shop.stage.judged({("a", ""): "unconfirmed"})
    assert await shop.read(billing, 1) == ["a"]
    await shop.stage.judged({("a", billing.name): "settled"})
