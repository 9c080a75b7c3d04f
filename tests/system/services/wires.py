"""The four wires of the tests as plain users of the client libraries write them; no instrumentation is in sight.

The one exception is NATS for a foreign party: no contrib instrumentation of it exists, so its users write spans by hand.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from hopwatch_demo.patience import scale_wait

Arrived = Callable[[dict[str, Any]], None]


class Wire(Protocol):
    """A way for messages to travel."""

    async def send(self, to: str, text: str) -> str:
        """Send a message and return what the library answered."""
        ...

    def receiving(self, arrived: Arrived, source: str, **how: Any) -> Any:
        """A context in which messages are received and settled; entered with what the sender must know."""
        ...


def opened(name: str, foreign: bool) -> Wire:
    """Return the wire of that name."""
    kinds: dict[str, type[Any]] = {"kafka": Kafka, "rabbitmq": Rabbit, "http": Http}
    if name == "nats":
        return ForeignNats() if foreign else Nats()
    return kinds[name]()  # type: ignore[no-any-return]


class Kafka:
    """aiokafka: one producer per send; a consumer that commits what it has processed."""

    async def send(self, to: str, text: str) -> str:
        from aiokafka import AIOKafkaProducer

        async with AIOKafkaProducer(bootstrap_servers=os.environ["KAFKA"]) as producer:
            where = await producer.send_and_wait(to, text.encode())
        return f"{where.partition}/{where.offset}"

    @asynccontextmanager
    async def receiving(
        self, arrived: Arrived, source: str, group: str, many: bool = False
    ) -> AsyncIterator[str]:
        from aiokafka import AIOKafkaConsumer

        consumer = AIOKafkaConsumer(
            source,
            bootstrap_servers=os.environ["KAFKA"],
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        async with consumer:
            loop = self._by_batches if many else self._one_by_one
            task = asyncio.create_task(loop(consumer, arrived))
            yield group
            await _ended(task)

    async def _one_by_one(self, consumer: Any, arrived: Arrived) -> None:
        while True:
            record = await consumer.getone()
            text = record.value.decode()
            await consumer.commit()
            arrived({"text": text})

    async def _by_batches(self, consumer: Any, arrived: Arrived) -> None:
        while True:
            found = await consumer.getmany(timeout_ms=1_000)
            texts = [record.value.decode() for records in found.values() for record in records]
            if texts:
                await consumer.commit()
            for text in texts:
                arrived({"text": text})


class Rabbit:
    """aio-pika: default exchange or a named one; a consumer by callback that acknowledges."""

    async def send(self, to: str, text: str, exchange: str = "") -> str:
        import aio_pika

        async with await aio_pika.connect(os.environ["RABBITMQ"]) as connection:
            channel = await connection.channel()
            where = (
                await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
            )
            message = aio_pika.Message(text.encode(), headers={"made-by": "the tests"})
            return type(await where.publish(message, routing_key=to)).__name__

    @asynccontextmanager
    async def receiving(self, arrived: Arrived, source: str, exchange: str = "") -> AsyncIterator[str]:
        import aio_pika

        async with await aio_pika.connect(os.environ["RABBITMQ"]) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(source, auto_delete=True)
            if exchange:
                topic = await channel.declare_exchange(
                    exchange, aio_pika.ExchangeType.TOPIC, auto_delete=True
                )
                await queue.bind(topic, f"{source}.#")

            async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
                async with message.process():
                    text = message.body.decode()
                arrived({"text": text})

            await queue.consume(handle)
            yield source


class Nats:
    """nats-py: a plain publish; a subscription by callback."""

    async def send(self, to: str, text: str) -> str:
        import nats

        connection = await nats.connect(os.environ["NATS"], connect_timeout=scale_wait(30))
        await connection.publish(to, text.encode())
        await connection.drain()
        return "published"

    @asynccontextmanager
    async def receiving(self, arrived: Arrived, source: str, group: str = "") -> AsyncIterator[str]:
        import nats

        connection = await nats.connect(os.environ["NATS"], connect_timeout=scale_wait(30))

        async def handle(message: Any) -> None:
            arrived({"text": message.data.decode()})

        await connection.subscribe(source, queue=group, cb=handle)
        await connection.flush()
        yield source
        await connection.close()


class ForeignNats(Nats):
    """The same with spans written by hand, with the names the conventions had before 1.17."""

    async def send(self, to: str, text: str) -> str:
        import nats
        from opentelemetry import propagate, trace

        connection = await nats.connect(os.environ["NATS"], connect_timeout=scale_wait(30))
        with trace.get_tracer("by.hand").start_as_current_span(
            f"{to} send",
            kind=trace.SpanKind.PRODUCER,
            attributes={
                "messaging.system": "nats",
                "messaging.operation": "publish",
                "messaging.destination": to,
                "messaging.destination_kind": "topic",
                "messaging.message_payload_size_bytes": len(text),
            },
        ):
            headers: dict[str, str] = {}
            propagate.inject(headers)
            await connection.publish(to, text.encode(), headers=headers)
        await connection.drain()
        return "published"

    @asynccontextmanager
    async def receiving(self, arrived: Arrived, source: str, group: str = "") -> AsyncIterator[str]:
        import nats
        from opentelemetry import propagate, trace

        connection = await nats.connect(os.environ["NATS"], connect_timeout=scale_wait(30))

        async def handle(message: Any) -> None:
            with trace.get_tracer("by.hand").start_as_current_span(
                f"{source} process",
                context=propagate.extract(message.headers or {}),
                kind=trace.SpanKind.CONSUMER,
                attributes={
                    "messaging.system": "nats",
                    "messaging.operation": "process",
                    "messaging.destination": source,
                    "messaging.consumer_group": group,
                },
            ):
                text = message.data.decode()
            arrived({"text": text})

        await connection.subscribe(source, queue=group, cb=handle)
        await connection.flush()
        yield source
        await connection.close()


class Http:
    """httpx and FastAPI: a call to an order, answered."""

    async def send(self, to: str, text: str) -> str:
        import httpx

        async with httpx.AsyncClient(trust_env=False, timeout=scale_wait(20)) as client:
            answer = await client.post(to, content=text)
        return str(answer.status_code)

    @asynccontextmanager
    async def receiving(self, arrived: Arrived, source: str) -> AsyncIterator[str]:
        import fastapi
        import uvicorn

        app = fastapi.FastAPI()

        @app.post("/" + source + "/{order}")
        async def take(order: int, request: fastapi.Request) -> dict[str, int]:
            arrived({"text": (await request.body()).decode()})
            return {"order": order}

        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/{source}/7"
        server.should_exit = True
        await serving


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
