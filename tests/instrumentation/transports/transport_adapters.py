"""What the conformance suite asks of each broker, on the real one: sending, receiving, settling, asking."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import aio_pika
import nats
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from nats.js.api import AckPolicy, ConsumerConfig
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from transport_support import TIMEOUT_S

from hopwatch.transports.aio_pika import AioPikaInstrumentor
from hopwatch.transports.aiokafka import AioKafkaInstrumentor, processing
from hopwatch.transports.nats import NatsInstrumentor
from hopwatch_demo.patience import scale_wait

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as every broker's handler sees it."""

    body: bytes
    headers: Pairs

    def header(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key.lower() == name]


@dataclass(frozen=True, slots=True)
class Pulled:
    """A message in the hands of a loop, and how to settle it."""

    message: Incoming
    settle: Callable[[], Awaitable[Any]]


Handler = Callable[[Incoming], Awaitable[None]]
Answer = Callable[[bytes], Awaitable[bytes]]


class Adapter(ABC):
    """What the suite asks of a broker: destinations with receivers, sending, and handling one message."""

    instrumentor: ClassVar[type[BaseInstrumentor]]
    system: ClassVar[str]
    settled: ClassVar[str]
    touched: ClassVar[list[tuple[type, str]]]

    def __init__(self, url: str, unique: str) -> None:
        self.url = url
        self.unique = unique

    @abstractmethod
    async def open(self) -> None:
        """Connect."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def receivers(self, destination: str, *names: str) -> None:
        """Make sure that these receivers are owed what is sent from now on."""

    @abstractmethod
    async def send(self, destination: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a message."""

    @abstractmethod
    async def handle(self, destination: str, receiver: str, handler: Handler) -> None:
        """Handle one message for a receiver: settled if that goes well, handed over again later if it raises."""

    @abstractmethod
    def pull(
        self, destination: str, receiver: str, count: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Pulled]]:
        """Take messages in a loop of the caller's own, as the broker's clients do: in batches where it has them."""

    @abstractmethod
    async def ask(self, destination: str, body: bytes, timeout: float) -> bytes:
        """Send a request and wait for its reply."""

    @abstractmethod
    def answering(self, destination: str, answer: Answer) -> AbstractAsyncContextManager[None]:
        """Answer the requests to a destination."""

    def address(self, destination: str) -> str:
        """Return how hopwatch spells a destination."""
        return destination

    def receiver(self, destination: str, name: str) -> str:
        """Return how hopwatch spells a receiver."""
        return f"{destination}-{name}"

    def pull_receiver(self, destination: str, name: str) -> str:
        """Return how it spells one that pulls."""
        return self.receiver(destination, name)


class Nats(Adapter):
    """JetStream with durable push consumers."""

    instrumentor = NatsInstrumentor
    system = "nats"
    settled = "ack"
    touched: ClassVar = [(nats.NATS, "publish"), (nats.NATS, "request"), (nats.aio.msg.Msg, "ack")]

    async def open(self) -> None:
        async def ignore(_: Exception) -> None: ...

        self.client = await nats.connect(self.url, error_cb=ignore, connect_timeout=scale_wait(20))
        self.js = self.client.jetstream(timeout=scale_wait(10))
        await self.js.add_stream(name=self.unique, subjects=[f"{self.unique}.>"])

    async def close(self) -> None:
        await self.js.delete_stream(self.unique)
        await self.client.close()

    async def receivers(self, destination: str, *names: str) -> None:
        for name in names:
            config = ConsumerConfig(
                durable_name=f"{destination}-{name}",
                deliver_subject=f"deliver-{destination}-{name}",
                filter_subject=self.address(destination),
                ack_policy=AckPolicy.EXPLICIT,
            )
            await self.js.add_consumer(self.unique, config)

    async def send(self, destination: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        await self.js.publish(self.address(destination), body, headers=headers)

    async def handle(self, destination: str, receiver: str, handler: Handler) -> None:
        done = asyncio.Event()

        async def callback(message: Any) -> None:
            try:
                await handler(Incoming(message.data, list((message.headers or {}).items())))
            except BaseException:
                await message.nak()
                raise
            else:
                await message.ack()
            finally:
                done.set()

        durable = f"{destination}-{receiver}"
        subscription = await self.js.subscribe(
            self.address(destination), durable=durable, stream=self.unique, cb=callback, manual_ack=True
        )
        await subscription.unsubscribe(limit=1)
        await asyncio.wait_for(done.wait(), TIMEOUT_S)
        await subscription.unsubscribe()

    @asynccontextmanager
    async def pull(self, destination: str, receiver: str, count: int) -> AsyncIterator[AsyncIterator[Pulled]]:
        durable = f"{destination}-{receiver}-pull"
        pull = await self.js.pull_subscribe(self.address(destination), durable=durable, stream=self.unique)

        async def loop() -> AsyncIterator[Pulled]:
            left = count
            while left:
                messages = await pull.fetch(left, timeout=TIMEOUT_S)
                left -= len(messages)
                for message in messages:
                    incoming = Incoming(message.data, list((message.headers or {}).items()))
                    yield Pulled(incoming, message.ack)

        try:
            yield loop()
        finally:
            await pull.unsubscribe()

    async def ask(self, destination: str, body: bytes, timeout: float) -> bytes:
        return bytes((await self.client.request(f"ask-{destination}", body, timeout=timeout)).data)

    @asynccontextmanager
    async def answering(self, destination: str, answer: Answer) -> AsyncIterator[None]:
        async def reply(message: Any) -> None:
            await message.respond(await answer(message.data))

        subscription = await self.client.subscribe(f"ask-{destination}", cb=reply)
        yield
        await subscription.unsubscribe()

    def address(self, destination: str) -> str:
        return f"{self.unique}.{destination}"

    def receiver(self, destination: str, name: str) -> str:
        return f"{self.unique}/{destination}-{name}"

    def pull_receiver(self, destination: str, name: str) -> str:
        return f"{self.receiver(destination, name)}-pull"


class RabbitMQ(Adapter):
    """A fanout exchange per destination, a queue per receiver, consumed by callback on a robust connection."""

    instrumentor = AioPikaInstrumentor
    system = "rabbitmq"
    settled = "ack"
    touched: ClassVar = [
        (aio_pika.Exchange, "publish"),
        (aio_pika.Queue, "consume"),
        (aio_pika.IncomingMessage, "ack"),
    ]

    async def open(self) -> None:
        self.connection = await aio_pika.connect_robust(self.url)
        self.channel = await self.connection.channel()
        self.exchanges: dict[str, aio_pika.abc.AbstractExchange] = {}

    async def close(self) -> None:
        await self.connection.close()

    async def receivers(self, destination: str, *names: str) -> None:
        exchange = await self.channel.declare_exchange(
            self._exchange(destination), "fanout", auto_delete=True
        )
        self.exchanges[destination] = exchange
        for name in names:
            queue = await self.channel.declare_queue(f"{destination}-{name}", exclusive=True)
            await queue.bind(exchange)

    async def send(self, destination: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        await self.exchanges[destination].publish(aio_pika.Message(body, headers=headers), "key")

    async def handle(self, destination: str, receiver: str, handler: Handler) -> None:
        done = asyncio.Event()

        async def callback(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            try:
                async with message.process(requeue=not message.redelivered):
                    await queue.cancel(tag)
                    pairs = [(key, str(value)) for key, value in message.headers.items()]
                    await handler(Incoming(message.body, pairs))
            except Oops:
                pass
            finally:
                done.set()

        await self.channel.set_qos(prefetch_count=1)
        queue = await self.channel.get_queue(f"{destination}-{receiver}", ensure=False)
        tag = f"{destination}-{receiver}-{id(done)}"
        await queue.consume(callback, consumer_tag=tag)
        await asyncio.wait_for(done.wait(), TIMEOUT_S)

    @asynccontextmanager
    async def pull(self, destination: str, receiver: str, count: int) -> AsyncIterator[AsyncIterator[Pulled]]:
        queue = await self.channel.get_queue(f"{destination}-{receiver}", ensure=False)
        async with queue.iterator() as messages:

            async def loop() -> AsyncIterator[Pulled]:
                left = count
                async for message in messages:
                    pairs = [(key, str(value)) for key, value in message.headers.items()]
                    yield Pulled(Incoming(message.body, pairs), message.ack)
                    left -= 1
                    if not left:
                        break

            yield loop()

    async def ask(self, destination: str, body: bytes, timeout: float) -> bytes:
        replies = await self.channel.declare_queue(exclusive=True)
        request = aio_pika.Message(body, reply_to=replies.name, correlation_id=f"c-{destination}")
        await self.channel.default_exchange.publish(request, f"ask-{destination}")
        async with asyncio.timeout(timeout), replies.iterator(no_ack=True) as messages:
            async for message in messages:
                return message.body
        raise AssertionError("the iterator ended")

    @asynccontextmanager
    async def answering(self, destination: str, answer: Answer) -> AsyncIterator[None]:
        async def reply(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            async with message.process():
                answered = aio_pika.Message(await answer(message.body), correlation_id=message.correlation_id)
                await self.channel.default_exchange.publish(answered, str(message.reply_to))

        queue = await self.channel.declare_queue(f"ask-{destination}", exclusive=True)
        tag = await queue.consume(reply)
        yield
        await queue.cancel(tag)

    def address(self, destination: str) -> str:
        return f"{self._exchange(destination)}:key"

    def _exchange(self, destination: str) -> str:
        return f"{destination}-exchange"


class Kafka(Adapter):
    """A topic per destination, a group per receiver, read with `async for` and committed by hand."""

    instrumentor = AioKafkaInstrumentor
    system = "kafka"
    settled = "none"
    touched: ClassVar = [(AIOKafkaProducer, "send"), (AIOKafkaConsumer, "getone")]

    async def open(self) -> None:
        self.producer = AIOKafkaProducer(bootstrap_servers=self.url)
        await self.producer.start()

    async def close(self) -> None:
        await self.producer.stop()

    async def receivers(self, destination: str, *names: str) -> None:
        await self.producer.partitions_for(destination)

    async def send(self, destination: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        pairs = [(key, value.encode()) for key, value in (headers or {}).items()]
        await self.producer.send_and_wait(destination, body, headers=pairs)

    async def handle(self, destination: str, receiver: str, handler: Handler) -> None:
        try:
            async with self._consumer(destination, f"{destination}-{receiver}") as consumer:
                async for record in consumer:
                    pairs = [(key, (value or b"").decode()) for key, value in record.headers]
                    with processing(record):
                        await handler(Incoming(record.value, pairs))
                    await consumer.commit()
                    break
        except Oops:
            pass

    @asynccontextmanager
    async def pull(self, destination: str, receiver: str, count: int) -> AsyncIterator[AsyncIterator[Pulled]]:
        async with self._consumer(destination, f"{destination}-{receiver}") as consumer:

            async def loop() -> AsyncIterator[Pulled]:
                left = count
                while left:
                    for records in (await consumer.getmany(timeout_ms=1000, max_records=left)).values():
                        left -= len(records)
                        for record in records:
                            pairs = [(key, (value or b"").decode()) for key, value in record.headers]
                            place = TopicPartition(record.topic, record.partition)
                            settle = partial(consumer.commit, {place: record.offset + 1})
                            yield Pulled(Incoming(record.value, pairs), settle)

            yield loop()

    async def ask(self, destination: str, body: bytes, timeout: float) -> bytes:
        replies = f"{destination}-replies"
        await self.producer.partitions_for(replies)
        headers = [("correlation_id", f"c-{destination}".encode()), ("reply_to", replies.encode())]
        await self.producer.send_and_wait(f"ask-{destination}", body, headers=headers)
        async with self._consumer(replies, f"{destination}-asker") as consumer:
            return bytes((await asyncio.wait_for(consumer.getone(), timeout)).value)

    @asynccontextmanager
    async def answering(self, destination: str, answer: Answer) -> AsyncIterator[None]:
        topic = f"ask-{destination}"
        await self.producer.partitions_for(topic)

        async def serve() -> None:
            async with self._consumer(topic, f"{destination}-answerer") as consumer:
                async for record in consumer:
                    headers = dict(record.headers)
                    correlation = [("correlation_id", headers["correlation_id"])]
                    body = await answer(record.value)
                    await self.producer.send_and_wait(headers["reply_to"].decode(), body, headers=correlation)

        serving = asyncio.create_task(serve())
        yield
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving

    @asynccontextmanager
    async def _consumer(self, topic: str, group: str) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=self.url,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()


class Oops(Exception):
    """What a failing handler raises."""
