"""What several files of transport tests use."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractChannel
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from hopwatch.conventions import PUBLISH_OUTCOME
from hopwatch_demo.patience import scale_wait

TIMEOUT_S: Final = scale_wait(30.0)

Producers = Callable[..., Coroutine[Any, Any, AIOKafkaProducer]]
Consumers = Callable[..., Coroutine[Any, Any, AIOKafkaConsumer]]


def outcomes(hops: Any) -> list[str]:
    """Return what the sends say became of them, in the order of their ends."""
    return [send.attributes[PUBLISH_OUTCOME] for send in hops.sends()]


async def publish(channel: AbstractChannel, key: str, body: bytes = b"1", **more: Any) -> Any:
    """Publish to a queue through the default exchange."""
    message = aio_pika.Message(body, **more)
    return await asyncio.wait_for(channel.default_exchange.publish(message, key), TIMEOUT_S)


async def all_of(consumer: AIOKafkaConsumer, count: int) -> list[Any]:
    """Fetch batches until there are this many records, and return the batches' lists."""
    got: list[Any] = []
    while sum(len(batch) for batch in got) < count:
        got.extend((await consumer.getmany(timeout_ms=1000)).values())
    return got
