"""What becomes of AMQP messages, with RabbitMQ's own word for it."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractQueue
from scenario_support import Stage

from hopwatch.transports.aio_pika import AioPikaInstrumentor
from hopwatch_collector.witness.rabbitmq import RabbitMQWitness


@dataclass
class Shop:
    """Queues, exchanges, senders and readers of one scenario, under names of their own."""

    stage: Stage
    channel: AbstractChannel
    queues: list[AbstractQueue] = field(default_factory=list)
    exchanges: list[AbstractExchange] = field(default_factory=list)

    def name(self, short: str) -> str:
        return f"{self.stage.unique}-{short}"

    async def queue(self, short: str, **arguments: object) -> AbstractQueue:
        """Declare a queue with arguments written with underscores: `x_message_ttl=100`."""
        told = {key.replace("_", "-"): value for key, value in arguments.items()}
        queue = await self.channel.declare_queue(self.name(short), durable=True, arguments=told)
        self.queues.append(queue)
        return queue

    async def exchange(self, short: str, kind: str, **arguments: object) -> AbstractExchange:
        """Declare an exchange."""
        told = {key.replace("_", "-"): value for key, value in arguments.items()}
        exchange = await self.channel.declare_exchange(self.name(short), kind, arguments=told)
        self.exchanges.append(exchange)
        return exchange

    async def send(
        self, names: str, to: AbstractQueue | AbstractExchange, key: str = "", **properties: object
    ) -> list[object]:
        """Publish one message per letter; return what publishing returned."""
        exchange = self.channel.default_exchange if isinstance(to, AbstractQueue) else to
        routing_key = to.name if isinstance(to, AbstractQueue) else key
        answers = []
        for name in names:
            with self.stage.named(name):
                message = aio_pika.Message(name.encode(), **properties)  # type: ignore[arg-type]
                answers.append(await exchange.publish(message, routing_key=routing_key))
        return answers

    async def read(
        self, queue: AbstractQueue, count: int, settle: Callable[..., object] | None = None
    ) -> list[str]:
        """Have a consumer take so many messages and acknowledge them, or settle them otherwise; its own record of them."""
        got = []
        async with queue.iterator() as messages:
            async for message in messages:
                got.append(message.body.decode())
                await (settle(message) if settle else message.ack())  # type: ignore[misc]
                if len(got) == count:
                    break
        return got


@pytest.fixture
async def shop(stage, brokers, rabbitmq_url: str) -> AsyncIterator[Shop]:
    """A shop on RabbitMQ with its witness."""
    one = stage(RabbitMQWitness(brokers.rabbitmq.management_url), AioPikaInstrumentor())
    async with await aio_pika.connect(rabbitmq_url) as connection:
        running = Shop(one, await connection.channel(publisher_confirms=True))
        await one.observe()
        yield running
    with one.unseen():
        async with await aio_pika.connect(rabbitmq_url) as connection:
            channel = await connection.channel()
            for queue in running.queues:
                await channel.queue_delete(queue.name)
            for exchange in running.exchanges:
                await channel.exchange_delete(exchange.name)


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
    assert told["a", billing.name].reason == "the queue no longer holds it, and handed it to nobody"
