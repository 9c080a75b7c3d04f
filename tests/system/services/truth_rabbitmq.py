"""The RabbitMQ side of a client of the judge's judge."""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aio_pika
from aiormq.abc import DeliveredMessage
from truth_spec import Client

from hopwatch_demo.patience import scale_wait


class Broken(Exception):
    """A handler that fails."""


class Wire:
    """A publisher to one exchange; the route is the routing key."""

    def __init__(self, exchange: Any, *, mandatory: bool) -> None:
        self._exchange, self._mandatory = exchange, mandatory

    async def publish(self, route: str, event: str) -> tuple[str, int, int]:
        """Send and wait for the confirmation."""
        message = aio_pika.Message(event.encode(), headers={"route": route})
        answer = await self._exchange.publish(
            message, route, mandatory=self._mandatory, timeout=scale_wait(60)
        )
        return ("returned" if isinstance(answer, DeliveredMessage) else "confirmed"), -1, -1


async def connect(client: Client) -> Wire:
    """Return a publisher with confirms."""
    connection = await aio_pika.connect(os.environ["RABBITMQ"])
    channel = await connection.channel()
    exchange = await channel.get_exchange(client.source)
    return Wire(exchange, mandatory=client.settings["mandatory"])


async def receive(desk: Any) -> Callable[[], Awaitable[None]]:
    """Consume from the queue; return what ends that in order."""
    client = desk.client
    connection = await aio_pika.connect(os.environ["RABBITMQ"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=client.settings["prefetch"])
    queue = await channel.get_queue(client.source)
    no_ack = client.settings["no_ack"]

    async def handle(message: Any) -> None:
        event, fate = desk.take(message.body)
        await desk.open.wait()
        if desk.left.is_set() and not no_ack:
            return
        await _settle(desk, message, event, fate, no_ack=no_ack)

    tag = await queue.consume(handle, no_ack=no_ack)

    async def end() -> None:
        await queue.cancel(tag)
        await connection.close()

    return end


async def _settle(desk: Any, message: Any, event: str, fate: str, *, no_ack: bool) -> None:
    if fate == "hold":
        return
    if fate == "again":
        fate = "ack" if message.redelivered else "again"
    desk.settle(event, fate)
    if no_ack:
        if fate == "acked_failed":
            raise Broken
    elif fate == "again":
        await message.nack(requeue=True)
    elif fate == "reject":
        await message.reject(requeue=False)
    elif fate == "fail":
        with suppress(Broken):
            async with message.process(requeue=False):
                raise Broken
    else:
        await message.ack()
        if fate == "acked_failed":
            raise Broken
