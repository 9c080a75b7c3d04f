"""Sends messages at a rate over one broker, and writes down what became of each send.

    rate_sender.py (kafka|rabbitmq|nats) RUN SEED RATE COUNT RECORD

Begins when it is told {"do": "send"}, answers {"sent": COUNT} at the end; {"do": "export"} has it export and tell its stats.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, Protocol

import hopwatch

hopwatch.instrument(service=f"{sys.argv[1]}-sender")

import aio_pika  # noqa: E402
import aiokafka  # noqa: E402
import nats  # noqa: E402
from aiormq.abc import DeliveredMessage  # noqa: E402
from nats.js.errors import NoStreamResponseError  # noqa: E402
from rate_orders import obey  # noqa: E402
from rate_record import NOWHERE, PLAIN, ROUTES  # noqa: E402
from record import Record, draw  # noqa: E402

from hopwatch_demo.patience import scale_wait  # noqa: E402

UNDER_WAY = 500
"""Sends that may wait for their answers at the same time."""

Sent = tuple[str, int, int]
"""How the send came back; where the message lies, if the broker says so."""


class Wire(Protocol):
    """A client of a broker that sends."""

    async def publish(self, route: str, event: str) -> Sent:
        """Send, and wait for the broker's answer."""
        ...


class Kafka:
    """A topic, which all groups read."""

    def __init__(self, run: str, producer: Any) -> None:
        self._topic, self._producer = run, producer

    @classmethod
    async def connect(cls, run: str) -> Wire:
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=os.environ["KAFKA"],
            enable_idempotence=True,
            linger_ms=5,
            request_timeout_ms=int(scale_wait(60_000)),
        )
        await producer.start()
        return cls(run, producer)

    async def publish(self, route: str, event: str) -> Sent:
        placed = await self._producer.send_and_wait(self._topic, event.encode(), key=event.encode())
        return "confirmed", placed.partition, placed.offset


class RabbitMQ:
    """A topic exchange; what it routes nowhere comes back."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange

    @classmethod
    async def connect(cls, run: str) -> Wire:
        connection = await aio_pika.connect(os.environ["RABBITMQ"])
        channel = await connection.channel()
        return cls(await channel.get_exchange(run))

    async def publish(self, route: str, event: str) -> Sent:
        message = aio_pika.Message(event.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        answer = await self._exchange.publish(message, f"order.{route}", timeout=scale_wait(60))
        return ("returned" if isinstance(answer, DeliveredMessage) else "confirmed"), -1, -1


class Nats:
    """A stream; a subject that it does not cover has nobody."""

    def __init__(self, run: str, jetstream: Any) -> None:
        self._run, self._jetstream = run, jetstream

    @classmethod
    async def connect(cls, run: str) -> Wire:
        client = await nats.connect(os.environ["NATS"], connect_timeout=scale_wait(30))
        return cls(run, client.jetstream(timeout=scale_wait(60)))

    async def publish(self, route: str, event: str) -> Sent:
        subject = f"{self._run}-{NOWHERE}" if route == NOWHERE else f"{self._run}.{route}"
        try:
            ack = await self._jetstream.publish(subject, event.encode())
        except NoStreamResponseError:
            return "returned", -1, -1
        return "confirmed", -1, ack.seq


WIRES: dict[str, type[Any]] = {"kafka": Kafka, "rabbitmq": RabbitMQ, "nats": Nats}


async def send_all(wire: Wire, run: str, seed: str, rate: float, count: int, record: Record) -> None:
    """Send so many, each when its time has come, or as soon as earlier ones leave room."""
    over = type(wire).__name__.lower()
    loop = asyncio.get_running_loop()
    room = asyncio.Semaphore(UNDER_WAY)

    async def send(number: int) -> None:
        event = f"{run}.{over}.{number:06d}"
        route = PLAIN if isinstance(wire, Kafka) else draw(seed, event, "route", ROUTES, PLAIN)
        try:
            with hopwatch.tag(event=event):
                how, partition, offset = await wire.publish(route, event)
        except Exception as error:  # noqa: BLE001  the test asks why
            how, partition, offset = f"failed: {error!r}", -1, -1
        finally:
            room.release()
        record.write("sent", event, how=how, route=route, partition=partition, offset=offset)

    began = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
            await room.acquire()
            group.create_task(send(number))


async def main(over: str, run: str, seed: str, rate: float, count: int, path: str) -> None:
    """Connect, and do as told until stdin ends."""
    wire, record = await WIRES[over].connect(run), Record(Path(path))

    async def send() -> dict[str, object]:
        await send_all(wire, run, seed, rate, count, record)
        return {"sent": count}

    await obey({"send": send})


if __name__ == "__main__":
    over, run, seed, rate, count, path = sys.argv[1:]
    asyncio.run(main(over, run, seed, float(rate), int(count), path))
