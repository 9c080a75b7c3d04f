"""A small shop on RabbitMQ: queues, exchanges, senders and readers of one scenario."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractQueue
from scenario_support import Stage, until

from hopwatch.transports.aio_pika import AioPikaInstrumentor
from hopwatch_collector.witness.rabbitmq import RabbitMQWitness

COUNTED_S = 7.5
"""A queue's counters lag behind its messages by up to 7 s."""


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
        self,
        names: str,
        to: AbstractQueue | AbstractExchange,
        key: str = "",
        *,
        mandatory: bool = True,
        **properties: object,
    ) -> list[object]:
        """Publish one message per letter; return what publishing returned."""
        exchange = self.channel.default_exchange if isinstance(to, AbstractQueue) else to
        routing_key = to.name if isinstance(to, AbstractQueue) else key
        answers = []
        for name in names:
            with self.stage.named(name):
                message = aio_pika.Message(name.encode(), **properties)  # type: ignore[arg-type]
                answers.append(await exchange.publish(message, routing_key=routing_key, mandatory=mandatory))
        return answers

    async def counted(self) -> None:
        """Wait until the witness has seen how many messages there were when the counters had come to rest."""
        began = time.monotonic()
        await until(lambda: time.monotonic() > began + COUNTED_S, "counters at rest")
        await self.stage.observe()

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
