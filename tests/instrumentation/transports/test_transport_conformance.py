"""One suite that every broker's transport must pass, each on its real broker through a small adapter."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import aio_pika
import nats
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from nats.js.api import AckPolicy, ConsumerConfig
from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.trace import StatusCode

import hopwatch
from hopwatch.conventions import (
    ATTEMPT,
    DESTINATION,
    ERROR_TYPE,
    KAFKA_OFFSET,
    KEY_PREFIX,
    MESSAGE_ID,
    MESSAGE_ID_HEADER,
    MESSAGING_SYSTEM,
    PUBLISH_OUTCOME,
    RECEIVER,
    SETTLE_OUTCOME,
    SUBSCRIPTION_DURABLE,
    SUBSCRIPTION_PATTERN,
)
from hopwatch.transports.aio_pika import AioPikaInstrumentor
from hopwatch.transports.aiokafka import AioKafkaInstrumentor, processing
from hopwatch.transports.nats import NatsInstrumentor

TIMEOUT_S = 30.0

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as every broker's handler sees it."""

    body: bytes
    headers: Pairs

    def header(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key.lower() == name]


Handler = Callable[[Incoming], Awaitable[None]]


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

    def address(self, destination: str) -> str:
        """Return how hopwatch spells a destination."""
        return destination

    def receiver(self, destination: str, name: str) -> str:
        """Return how hopwatch spells a receiver."""
        return f"{destination}-{name}"


class Nats(Adapter):
    """JetStream with durable push consumers."""

    instrumentor = NatsInstrumentor
    system = "nats"
    settled = "ack"
    touched: ClassVar = [(nats.NATS, "publish"), (nats.NATS, "request"), (nats.aio.msg.Msg, "ack")]

    async def open(self) -> None:
        async def ignore(_: Exception) -> None: ...

        self.client = await nats.connect(self.url, error_cb=ignore)
        self.js = self.client.jetstream()
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

    def address(self, destination: str) -> str:
        return f"{self.unique}.{destination}"

    def receiver(self, destination: str, name: str) -> str:
        return f"{self.unique}/{destination}-{name}"


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
        consumer = AIOKafkaConsumer(
            destination,
            bootstrap_servers=self.url,
            group_id=f"{destination}-{receiver}",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            async for record in consumer:
                pairs = [(key, (value or b"").decode()) for key, value in record.headers]
                with processing(record):
                    await handler(Incoming(record.value, pairs))
                await consumer.commit()
                break
        except Oops:
            pass
        finally:
            await consumer.stop()


class Oops(Exception):
    """What a failing handler raises."""


class TransportSuite:
    """What holds for every broker."""

    adapter: ClassVar[type[Adapter]]

    @pytest.fixture
    async def broker(self, url: str, unique: str, hops: Any) -> AsyncIterator[Adapter]:
        """An instrumented connection."""
        self.adapter.instrumentor().instrument(skip_dep_check=True)
        broker = self.adapter(url, unique)
        async with asyncio.timeout(TIMEOUT_S):
            await broker.open()
        yield broker
        async with asyncio.timeout(TIMEOUT_S):
            await broker.close()
        self.adapter.instrumentor().uninstrument()

    async def test_a_message_carries_its_id_and_flow(self, broker: Adapter, unique: str, hops: Any) -> None:
        """The receiver's attempt has the sender's message id, is its child, and knows the business keys."""
        await broker.receivers(unique, "a")
        with hopwatch.tag(order_id=7):
            await broker.send(unique, b"hello", {"mine": "kept"})
        seen: list[Incoming] = []

        async def handler(message: Incoming) -> None:
            seen.append(message)

        await broker.handle(unique, "a", handler)
        [process] = await hops.processed()
        [send] = hops.sends()
        told = dict(process.attributes)
        assert seen[0].header("mine") == ["kept"]
        assert seen[0].header(MESSAGE_ID_HEADER) == [told[MESSAGE_ID]] == [send.attributes[MESSAGE_ID]]
        assert process.parent.span_id == send.context.span_id
        assert process.context.trace_id == send.context.trace_id
        assert told[f"{KEY_PREFIX}order_id"] == "7"
        assert told[DESTINATION] == send.attributes[DESTINATION] == broker.address(unique)
        assert told[RECEIVER] == broker.receiver(unique, "a")
        assert told[MESSAGING_SYSTEM] == send.attributes[MESSAGING_SYSTEM] == broker.system
        assert told[ATTEMPT] == 1

    async def test_an_accepted_message_is_confirmed(self, broker: Adapter, unique: str, hops: Any) -> None:
        """A send the broker answered says so."""
        await broker.receivers(unique, "a")
        await broker.send(unique, b"hello")
        assert [send.attributes[PUBLISH_OUTCOME] for send in hops.sends()] == ["confirmed"]
        assert hops.sends()[0].status.status_code is StatusCode.UNSET

    async def test_a_handled_message_is_settled(self, broker: Adapter, unique: str, hops: Any) -> None:
        """An acknowledgement is on the attempt; Kafka's commit is a span of its own with the next offset."""
        await broker.receivers(unique, "a")
        await broker.send(unique, b"hello")
        await broker.handle(unique, "a", nothing)
        [process] = await hops.processed()
        assert process.attributes[SETTLE_OUTCOME] == broker.settled
        assert process.status.status_code is StatusCode.UNSET
        for commit in hops.settles():
            assert commit.attributes[RECEIVER] == broker.receiver(unique, "a")
            assert commit.attributes[KAFKA_OFFSET] == process.attributes[KAFKA_OFFSET] + 1
        assert len(hops.settles()) == (1 if broker.system == "kafka" else 0)

    async def test_a_failing_handler_is_seen_and_comes_again(
        self, broker: Adapter, unique: str, hops: Any
    ) -> None:
        """The first attempt carries the error, the second is numbered two and belongs to the same message."""
        await broker.receivers(unique, "a")
        await broker.send(unique, b"hello")
        await broker.handle(unique, "a", failing)
        await hops.processed(1)
        await broker.handle(unique, "a", nothing)
        first, second = await hops.processed(2)
        assert first.status.status_code is StatusCode.ERROR
        assert first.attributes[ERROR_TYPE] == "Oops"
        assert (first.attributes[ATTEMPT], second.attributes[ATTEMPT]) == (1, 2)
        assert first.attributes[MESSAGE_ID] == second.attributes[MESSAGE_ID]
        assert second.status.status_code is StatusCode.UNSET

    async def test_a_forwarded_message_is_a_new_one_of_the_same_flow(
        self, broker: Adapter, unique: str, hops: Any
    ) -> None:
        """What the first hop put into the headers is replaced, once, and the application's own is kept."""
        onward = f"{unique}-onward"
        await broker.receivers(unique, "a")
        await broker.receivers(onward, "b")
        await broker.send(unique, b"hello", {"mine": "kept"})
        arrived: list[Incoming] = []
        headers: dict[str, str] = {}

        async def forward(message: Incoming) -> None:
            headers.update(message.headers)
            await broker.send(onward, message.body, headers)

        async def arrive(message: Incoming) -> None:
            arrived.append(message)

        await broker.handle(unique, "a", forward)
        as_forwarded = dict(headers)
        await broker.handle(onward, "b", arrive)
        first, second = await hops.processed(2)
        one, two = hops.sends()
        assert headers == as_forwarded
        assert arrived[0].header(MESSAGE_ID_HEADER) == [two.attributes[MESSAGE_ID]]
        assert len(arrived[0].header("traceparent")) == 1
        assert arrived[0].header("mine") == ["kept"]
        assert two.attributes[MESSAGE_ID] != one.attributes[MESSAGE_ID]
        assert two.parent.span_id == first.context.span_id
        assert second.parent.span_id == two.context.span_id
        assert second.context.trace_id == one.context.trace_id

    async def test_every_receiver_gets_its_own_copy(self, broker: Adapter, unique: str, hops: Any) -> None:
        """One message, two receivers, two attempts."""
        await broker.receivers(unique, "a", "b")
        await broker.send(unique, b"hello")
        await broker.handle(unique, "a", nothing)
        await broker.handle(unique, "b", nothing)
        attempts = await hops.processed(2)
        assert {process.attributes[RECEIVER] for process in attempts} == {
            broker.receiver(unique, "a"),
            broker.receiver(unique, "b"),
        }
        assert len({process.attributes[MESSAGE_ID] for process in attempts}) == 1

    async def test_who_is_owed_what_is_reported(self, broker: Adapter, unique: str, hops: Any) -> None:
        """A receiver's title to a destination is reported by the time it reads."""
        await broker.receivers(unique, "a")
        await broker.send(unique, b"hello")
        await broker.handle(unique, "a", nothing)
        titles = [
            (report[SUBSCRIPTION_PATTERN], report[SUBSCRIPTION_DURABLE])
            for report in hops.reports("subscribe")
            if report[RECEIVER] == broker.receiver(unique, "a")
        ]
        expected = {
            "nats": [(broker.address(unique), True)],
            "rabbitmq": [(f"{unique}-a", False), (f"{unique}-exchange:#", False)],
            "kafka": [(unique, True)],
        }
        assert titles == expected[broker.system]

    async def test_sending_touches_nothing_of_the_callers(self, broker: Adapter, unique: str) -> None:
        """Headers given to a send are copied, and no hop stays current after it or after a handler."""
        await broker.receivers(unique, "a")
        headers = {"mine": "kept"}
        await broker.send(unique, b"hello", headers)
        await broker.send(unique, b"hello", headers)
        assert headers == {"mine": "kept"}
        assert not trace.get_current_span().get_span_context().is_valid

    async def test_a_cancelled_handler_ends_its_attempt(
        self, broker: Adapter, unique: str, hops: Any
    ) -> None:
        """Cancellation reaches the handler's caller unchanged, and the attempt ends with it."""
        await broker.receivers(unique, "a")
        await broker.send(unique, b"hello")
        began = asyncio.Event()

        async def hang(message: Incoming) -> None:
            began.set()
            await asyncio.Event().wait()

        async def cancelling(message: Incoming) -> None:
            task = asyncio.ensure_future(hang(message))
            await asyncio.wait_for(began.wait(), TIMEOUT_S)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                raise Oops from None

        await broker.handle(unique, "a", cancelling)
        [process] = await hops.processed()
        assert process.status.status_code is StatusCode.ERROR

    async def test_uninstrument_puts_everything_back(self, broker: Adapter, unique: str, hops: Any) -> None:
        """The library's own methods are back, and nothing is recorded any more."""
        await broker.receivers(unique, "a")
        assert all(hasattr(vars(owner)[name], "__wrapped__") for owner, name in broker.touched)
        self.adapter.instrumentor().uninstrument()
        try:
            assert not any(hasattr(vars(owner)[name], "__wrapped__") for owner, name in broker.touched)
            await broker.send(unique, b"hello")
            await broker.handle(unique, "a", nothing)
            assert hops.sends() == hops.processes() == []
        finally:
            self.adapter.instrumentor().instrument(skip_dep_check=True)


@pytest.mark.nats
class TestNats(TransportSuite):
    """The suite on NATS."""

    adapter = Nats

    @pytest.fixture
    def url(self, nats_url: str) -> str:
        """Where the broker is."""
        return nats_url


@pytest.mark.rabbitmq
class TestRabbitMQ(TransportSuite):
    """The suite on RabbitMQ."""

    adapter = RabbitMQ

    @pytest.fixture
    def url(self, rabbitmq_url: str) -> str:
        """Where the broker is."""
        return rabbitmq_url


@pytest.mark.kafka
class TestKafka(TransportSuite):
    """The suite on Kafka."""

    adapter = Kafka

    @pytest.fixture
    def url(self, kafka_bootstrap: str) -> str:
        """Where the broker is."""
        return kafka_bootstrap


async def nothing(_: Incoming) -> None:
    """Handle a message well."""


async def failing(_: Incoming) -> None:
    """Handle a message badly."""
    raise Oops("broken")
