"""Receives over one broker as several receivers, deals with each message by lot, and writes down what it did.

    rate_receiver.py (kafka|rabbitmq|nats) RUN SEED COUNT RECORD

{"do": "status"} has it tell how many messages each receiver has done with; {"do": "export"}: see rate_orders.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import hopwatch

hopwatch.instrument(service=f"{sys.argv[1]}-receivers")

import aio_pika  # noqa: E402
import aiokafka  # noqa: E402
import nats  # noqa: E402
from nats.js.api import ConsumerConfig  # noqa: E402
from rate_orders import obey  # noqa: E402
from rate_record import FATES, HELD_AT_MOST  # noqa: E402
from record import Record, draw  # noqa: E402

from hopwatch.transports.aiokafka import processing  # noqa: E402
from hopwatch_demo.patience import scale_wait  # noqa: E402

LONG_S = 3_600.0
"""After which brokers would take held messages back: not within the test."""


class Broken(Exception):
    """A handler that fails."""


class Desk:
    """What all receivers of a process share: whom they take messages for, and how they note it."""

    def __init__(self, over: str, run: str, seed: str, count: int, record: Record) -> None:
        self.over, self.run, self.seed, self.count, self.record = over, run, seed, count, record
        self.done: Counter[str] = Counter()
        self.held: Counter[str] = Counter()

    def take(self, body: bytes, name: str, receiver: str) -> tuple[str, str]:
        """Note that a message is here; return its event and what is to become of it."""
        event = body.decode()
        self.record.write("received", event, receiver)
        fate = draw(self.seed, event, receiver, FATES.get(f"{self.over} {name}", {}), "ack")
        if fate == "hold" and self.held[name] >= HELD_AT_MOST:
            fate = "ack"
        if fate == "hold":
            self.held[name] += 1
            self.done[name] += 1
        return event, fate

    def settle(self, event: str, name: str, receiver: str, how: str) -> None:
        """Note how a message is about to be settled."""
        self.record.write("settled", event, receiver, how)
        self.done[name] += how != "again"

    async def status(self) -> dict[str, object]:
        """Tell how many messages each receiver has done with."""
        return {"done": dict(self.done)}


async def over_kafka(desk: Desk) -> None:
    """Three groups: one whose handler fails at times, one that passes records over, one that leaves half way."""
    for name, work in (("billing", _bill), ("stock", _stock), ("archive", _archive)):
        group = f"{desk.run}-{name}"
        consumer = aiokafka.AIOKafkaConsumer(
            desk.run,
            bootstrap_servers=os.environ["KAFKA"],
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_interval_ms=int(LONG_S * 1000),
            session_timeout_ms=int(scale_wait(20_000)),
        )
        await consumer.start()
        while not consumer.assignment():
            await asyncio.sleep(0.05)
        _keep(work(desk, consumer, group))


async def _read(desk: Desk, consumer: Any, name: str, group: str, at_most: int) -> dict[Any, int]:
    """Handle what there is, commit, and return where each partition of it goes on."""
    following: dict[Any, int] = {}
    for partition, records in (await consumer.getmany(timeout_ms=500, max_records=at_most)).items():
        for record in records:
            event, fate = desk.take(record.value, name, group)
            with suppress(Broken), processing(record):
                desk.settle(event, name, group, fate)
                if fate == "fail":
                    raise Broken
            following[partition] = record.offset + 1
    if following:
        await consumer.commit(following)
    return following


async def _bill(desk: Desk, consumer: Any, group: str) -> None:
    while True:
        await _read(desk, consumer, "billing", group, 50)


async def _stock(desk: Desk, consumer: Any, group: str) -> None:
    lot = Random(f"{desk.seed} stock")
    while True:
        read = await _read(desk, consumer, "stock", group, lot.randint(5, 60))
        if not read:
            continue
        ends = await consumer.end_offsets(list(read))
        # The committed position is moved past one record that is there and has not been read.
        for partition, offset in read.items():
            if ends[partition] > offset and lot.random() < 0.5:
                place = {"partition": partition.partition, "offset": offset}
                desk.record.write("passed", receiver=group, **place)
                desk.done["stock"] += 1
                consumer.seek(partition, offset + 1)
                await consumer.commit({partition: offset + 1})


async def _archive(desk: Desk, consumer: Any, group: str) -> None:
    while (left := desk.count // 2 - desk.done["archive"]) > 0:
        await _read(desk, consumer, "archive", group, min(50, left))
    await consumer.stop()


async def over_rabbitmq(desk: Desk) -> None:
    """Three queues: one that rejects to a dead-letter queue and holds, one that fails and gives back, the dead letters."""
    connection = await aio_pika.connect(os.environ["RABBITMQ"])

    async def bill(message: Any, queue: str) -> None:
        event, fate = desk.take(message.body, "billing", queue)
        if fate == "hold":
            return
        desk.settle(event, "billing", queue, fate)
        await (message.reject(requeue=False) if fate == "reject" else message.ack())

    async def stock(message: Any, queue: str) -> None:
        event, fate = desk.take(message.body, "stock", queue)
        again = fate == "again" and not message.redelivered
        desk.settle(event, "stock", queue, "ack" if fate == "again" and not again else fate)
        if again:
            await message.nack(requeue=True)
        elif fate == "fail":
            with suppress(Broken):
                async with message.process(requeue=False):
                    raise Broken
        else:
            await message.ack()

    async def bury(message: Any, queue: str) -> None:
        event, _ = desk.take(message.body, "dead", queue)
        desk.settle(event, "dead", queue, "ack")
        await message.ack()

    for name, handle in (("billing", bill), ("stock", stock), ("dead", bury)):
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=3 * HELD_AT_MOST)
        queue = await channel.get_queue(f"{desk.run}.{name}")
        await queue.consume(_told_which(handle, queue.name))


def _told_which(
    handle: Callable[[Any, str], Awaitable[None]], queue: str
) -> Callable[[Any], Awaitable[None]]:
    async def handle_one(message: Any) -> None:
        await handle(message, queue)

    return handle_one


async def over_nats(desk: Desk) -> None:
    """Two durables: one that pulls, terminates and holds, one that is pushed, fails after the fact and gives back."""

    async def ignore(_: Exception) -> None:
        """A handler that fails is meant."""

    client = await nats.connect(os.environ["NATS"], connect_timeout=scale_wait(30), error_cb=ignore)
    jetstream = client.jetstream(timeout=scale_wait(60))
    stock = f"{desk.run}/stock"

    async def store(message: Any) -> None:
        event, fate = desk.take(message.data, "stock", stock)
        again = fate == "again" and message.metadata.num_delivered == 1
        desk.settle(event, "stock", stock, "ack" if fate == "again" and not again else fate)
        await (message.nak() if again else message.ack())
        if fate == "fail":
            raise Broken

    pulling = await jetstream.pull_subscribe_bind("billing", stream=desk.run)
    await jetstream.subscribe(
        f"{desk.run}.>",
        stream=desk.run,
        durable="stock",
        cb=store,
        manual_ack=True,
        config=ConsumerConfig(ack_wait=LONG_S),
    )
    _keep(_pull(desk, pulling, f"{desk.run}/billing"))


async def _pull(desk: Desk, pulling: Any, receiver: str) -> None:
    while True:
        try:
            messages = await pulling.fetch(50, timeout=1)
        except TimeoutError:
            continue
        for message in messages:
            event, fate = desk.take(message.data, "billing", receiver)
            if fate == "hold":
                continue
            desk.settle(event, "billing", receiver, fate)
            await (message.term() if fate == "term" else message.ack())


_kept: set[asyncio.Task[None]] = set()


def _keep(work: Any) -> None:
    """Have a receiver work on; what ends it is said, and ends the process."""

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            sys.stderr.write(f"a receiver ended: {error!r}\n")
            os._exit(1)

    task = asyncio.create_task(work)
    _kept.add(task)
    task.add_done_callback(ended)


async def main(over: str, run: str, seed: str, count: int, path: str) -> None:
    """Receive, and do as told until stdin ends."""
    desk = Desk(over, run, seed, count, Record(Path(path)))
    await {"kafka": over_kafka, "rabbitmq": over_rabbitmq, "nats": over_nats}[over](desk)
    await obey({"status": desk.status})


if __name__ == "__main__":
    over, run, seed, count, path = sys.argv[1:]
    asyncio.run(main(over, run, seed, int(count), path))
