"""The shop over RabbitMQ: events over a topic exchange, commands and answers over the default exchange."""

from collections.abc import Coroutine
from typing import Any, ClassVar, Final, Self

import aio_pika
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractExchange,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aiormq.abc import DeliveredMessage, FieldTable

from hopwatch_demo.catalogue import BILL, DEAD, GIFT, KINDS, NOWHERE, QUOTE, QUOTED, Broker, Kind, Pattern
from hopwatch_demo.shop.messaging.bus import Bus, Desk, Done, Handler, Incoming, Letter, Sent, forever

EXCHANGE: Final = "shop"
DEAD_LETTERS: Final = "shop.dead"
MOVED_BY_THE_BROKER: Final[FieldTable] = {"x-dead-letter-exchange": DEAD_LETTERS}


def queue_name(kind: Kind, service: str) -> str:
    """Return the queue in which a service gets a kind of message."""
    return f"{service}.{kind.name}"


async def prepare(url: str) -> None:
    """Declare the exchanges; queues of an earlier run go, with what is in them."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for kind in KINDS:
            for service in kind.receivers:
                await channel.queue_delete(queue_name(kind, service))
        await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
        await channel.declare_exchange(DEAD_LETTERS, aio_pika.ExchangeType.TOPIC, durable=True)


class RabbitBus(Bus):
    """A connection to RabbitMQ, with a channel for sending and one for each kind it listens to."""

    broker: ClassVar[Broker] = Broker.RABBITMQ

    def __init__(
        self, desk: Desk, connection: AbstractConnection, channel: AbstractChannel, events: AbstractExchange
    ) -> None:
        super().__init__(desk)
        self._connection = connection
        self._channel = channel
        self._events = events

    @classmethod
    async def connect(cls, url: str, desk: Desk) -> Self:
        """Connect; the exchanges are there already."""
        connection = await aio_pika.connect(url)
        channel = await connection.channel()
        return cls(desk, connection, channel, await channel.get_exchange(EXCHANGE))

    async def publish(self, kind: Kind, letter: Letter) -> Sent:
        """Publish and await the confirmation; an event nobody may have bound to is not mandatory."""
        if kind.pattern is Pattern.EVENT:
            exchange, key = self._events, f"event.{kind.name}"
        elif kind is NOWHERE:
            exchange, key = self._events, "parcel.nowhere"
        else:
            (service,) = kind.receivers
            exchange, key = self._channel.default_exchange, queue_name(kind, service)
        message = aio_pika.Message(letter.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        if kind is QUOTE:
            message.reply_to, message.correlation_id = queue_name(QUOTED, "orders"), letter.event
        return _outcome(await exchange.publish(message, key, mandatory=kind is not GIFT))

    async def reply(self, kind: Kind, letter: Letter, incoming: Incoming) -> Sent:
        """Publish to the queue the request named, under its correlation id."""
        message = aio_pika.Message(letter.encode(), correlation_id=incoming.correlation)
        return _outcome(await self._channel.default_exchange.publish(message, incoming.reply_to))

    async def listen(self, kind: Kind, handler: Handler) -> Coroutine[Any, Any, None]:
        """Declare the queue, bind it, and consume one message at a time: events by iterating, the rest called back."""
        receiver = queue_name(kind, self.desk.service)
        channel = await self._connection.channel()
        await channel.set_qos(prefetch_count=1)
        queue = await channel.declare_queue(
            receiver, durable=True, arguments=MOVED_BY_THE_BROKER if kind is BILL else None
        )
        if kind.pattern is Pattern.EVENT:
            await queue.bind(EXCHANGE, f"event.{kind.name}")
        elif kind is DEAD:
            await queue.bind(DEAD_LETTERS, "#")
        if kind.pattern is Pattern.EVENT:
            self.listening(kind, receiver)
            return self._keep_iterating(queue, kind, receiver, handler)

        async def handle(message: AbstractIncomingMessage) -> None:
            await self._attempt(kind, message, receiver, handler)

        await queue.consume(handle)
        self.listening(kind, receiver)
        return forever()

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()

    async def _keep_iterating(
        self, queue: AbstractQueue, kind: Kind, receiver: str, handler: Handler
    ) -> None:
        async with queue.iterator() as messages:
            async for message in messages:
                await self._attempt(kind, message, receiver, handler)
                await self.desk.gate.passed()

    async def _attempt(
        self, kind: Kind, message: AbstractIncomingMessage, receiver: str, handler: Handler
    ) -> None:
        letter = Letter.decode(message.body)
        self.received(kind, letter, receiver)
        done = await handler(
            Incoming(self.broker, letter, message.reply_to or "", str(message.correlation_id or ""))
        )
        self.settling(kind, letter, receiver, "reject" if done is Done.POISON else "ack")
        if done is Done.POISON:
            await message.reject(requeue=False)
        else:
            await message.ack()


def _outcome(answer: object) -> Sent:
    """Read what `publish` returned: an unroutable message comes back as its return value."""
    return Sent("returned" if isinstance(answer, DeliveredMessage) else "confirmed")
