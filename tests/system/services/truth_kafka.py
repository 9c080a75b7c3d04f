"""The Kafka side of a client of the judge's judge."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from random import Random
from typing import Any

import aiokafka
from truth_spec import Client

from hopwatch_demo.patience import scale_wait

LONG_S = 3_600.0


class Broken(Exception):
    """A handler that fails."""


class Wire:
    """A producer to one topic."""

    def __init__(self, topic: str, producer: Any, *, answered: bool) -> None:
        self._topic, self._producer, self._answered = topic, producer, answered

    async def publish(self, route: str, event: str) -> tuple[str, int, int]:
        """Send to the partition of the event's key."""
        placed = await self._producer.send_and_wait(self._topic, event.encode(), key=event.encode())
        return ("confirmed", placed.partition, placed.offset) if self._answered else ("sent", -1, -1)


async def connect(client: Client) -> Wire:
    """Return a producer with the acknowledgements that the client is to have."""
    acks = client.settings["acks"]
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=os.environ["KAFKA"],
        acks=acks,
        linger_ms=5,
        request_timeout_ms=int(scale_wait(60_000)),
    )
    await producer.start()
    return Wire(client.source, producer, answered=acks != 0)


async def receive(desk: Any) -> Callable[[], Awaitable[None]]:
    """Read as a member of the group; return what ends that in order."""
    client = desk.client
    settings = client.settings
    consumer = aiokafka.AIOKafkaConsumer(
        client.source,
        bootstrap_servers=os.environ["KAFKA"],
        group_id=client.receiver,
        enable_auto_commit=settings["commit"] == "auto",
        auto_commit_interval_ms=400,
        auto_offset_reset=settings["start"],
        max_poll_interval_ms=int(LONG_S * 1000),
        session_timeout_ms=int(scale_wait(10_000)),
        metadata_max_age_ms=1_000,
    )
    await consumer.start()
    while not consumer.assignment():
        await asyncio.sleep(0.05)
    for partition in consumer.assignment():
        place = {"partition": partition.partition, "offset": await consumer.position(partition)}
        desk.record.write("began", receiver=client.receiver, **place)
    work = asyncio.create_task(_read(desk, consumer))
    work.add_done_callback(_end_with)

    async def end() -> None:
        await work
        await consumer.stop()

    return end


def _end_with(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        sys.stderr.write(f"a member ended: {error!r}\n")
        os._exit(1)


def _around(desk: Any, record: Any) -> AbstractContextManager[object]:
    """Return what a service puts around the handling of a record."""
    if not desk.client.told or desk.client.settings["read"] == "bare":
        return nullcontext()
    from hopwatch.transports.aiokafka import processing

    return processing(record)


async def _read(desk: Any, consumer: Any) -> None:
    settings = desk.client.settings
    lot = Random(f"{desk.client.seed} {desk.client.name} passes")
    while not desk.left.is_set():
        await desk.open.wait()
        read: dict[Any, int] = {}
        batch = await consumer.getmany(timeout_ms=300, max_records=settings["at_most"])
        for partition, records in batch.items():
            for record in records:
                event, fate = desk.take(record.value)
                with suppress(Broken), _around(desk, record):
                    desk.settle(event, fate)
                    if fate == "fail":
                        raise Broken
                read[partition] = record.offset + 1
                if settings["commit"] == "each":
                    await consumer.commit({partition: record.offset + 1})
        if settings["commit"] == "batch" and read:
            await consumer.commit(read)
        if settings["passes"] and read:
            await _pass_over(desk, consumer, read, lot)


async def _pass_over(desk: Any, consumer: Any, read: dict[Any, int], lot: Random) -> None:
    """Move past one record here and there that is there and has not been read."""
    ends = await consumer.end_offsets(list(read))
    for partition, offset in read.items():
        if ends[partition] > offset and lot.random() < 0.3:
            place = {"partition": partition.partition, "offset": offset}
            desk.record.write("passed", receiver=desk.client.receiver, **place)
            consumer.seek(partition, offset + 1)
            await consumer.commit({partition: offset + 1})
