"""`make bench-witness`: what asking brokers costs, at 200 destinations with five receivers each that stand still.

Counts the CPU of witness and engine in this process, and the requests each broker gets, over a minute.
"""

import argparse
import asyncio
import os
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import aio_pika
import nats
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from nats.js.api import ConsumerConfig, StreamConfig

from hopwatch_collector.engine import Store
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.witness.kafka import KafkaWitness
from hopwatch_collector.witness.model import Witness
from hopwatch_collector.witness.nats import NatsWitness
from hopwatch_collector.witness.rabbitmq import RabbitMQWitness
from hopwatch_collector.witness.watch import Watch
from hopwatch_demo.brokers import Brokers

DESTINATIONS = 200
RECEIVERS = 5


async def fill_kafka(bootstrap: str) -> None:
    """Topics with one record each, and groups that have not read it."""
    topics = [f"cost{number}" for number in range(DESTINATIONS)]
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1) for topic in topics])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for topic in topics:
            await producer.send(topic, b"x", partition=0)
    for group in range(RECEIVERS):
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, group_id=f"g{group}", enable_auto_commit=False
        )
        async with consumer:
            partitions = [TopicPartition(topic, 0) for topic in topics]
            consumer.assign(partitions)
            await consumer.commit(dict.fromkeys(partitions, 0))


async def fill_nats(url: str) -> None:
    """Streams with durables."""
    client = await nats.connect(url)
    streams = client.jetstream()
    for number in range(DESTINATIONS):
        await streams.add_stream(StreamConfig(name=f"COST{number}", subjects=[f"cost{number}.>"]))
        for name in range(RECEIVERS):
            await streams.add_consumer(
                f"COST{number}", ConsumerConfig(durable_name=f"g{name}", ack_policy="explicit")
            )
    await client.close()


async def fill_rabbitmq(url: str) -> None:
    """Fan-out exchanges with queues."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for number in range(DESTINATIONS):
            exchange = await channel.declare_exchange(f"cost{number}", "fanout")
            for name in range(RECEIVERS):
                queue = await channel.declare_queue(f"cost{number}.g{name}", durable=True)
                await queue.bind(exchange)


def cpu_s() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(witness: Witness, store: Store, seconds: float) -> Mapping[str, float]:
    """Watch for so long, after the first look."""
    metrics = Metrics()
    watch = Watch(witness, store, metrics)
    await watch.once()
    if watch.trouble is not None:
        raise SystemExit(f"{witness.system}: {watch.trouble}")

    def requests() -> float:
        return (
            metrics.registry.get_sample_value(
                "hopwatch_witness_requests_total", {"system": witness.system, "broker": watch.broker}
            )
            or 0.0
        )

    cpu, asked, began = cpu_s(), requests(), time.monotonic()
    task = asyncio.create_task(watch.run())
    await asyncio.wait([task], timeout=seconds)
    minutes = (time.monotonic() - began) / 60
    figures = {"cpu_s_per_min": (cpu_s() - cpu) / minutes, "requests_per_min": (requests() - asked) / minutes}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return figures


async def run(brokers: Brokers, directory: Path, seconds: float) -> None:
    """Fill and watch one broker after the other."""
    cases: list[tuple[Callable[[str], Awaitable[None]], str, Witness]] = [
        (fill_kafka, brokers.kafka.url, KafkaWitness(brokers.kafka.url)),
        (fill_rabbitmq, brokers.rabbitmq.url, RabbitMQWitness(brokers.rabbitmq.management_url)),
        (fill_nats, brokers.nats.url, NatsWitness(brokers.nats.url, brokers.nats.monitoring_url)),
    ]
    store = Store.open(str(directory / "engine"))
    line = []
    for fill, url, witness in cases:
        print(f"{witness.system}: {DESTINATIONS} destinations, {RECEIVERS} receivers each", flush=True)
        await fill(url)
        figures = await measure(witness, store, seconds)
        line += [f"{witness.system}_{name}={value:.2f}" for name, value in figures.items()]
    store.close()
    print(*line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each broker is watched")
    options = parser.parse_args()
    print(f"python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="hopwatch-bench-"))
    os.chdir(directory)
    try:
        with Brokers.start(["nats", "rabbitmq", "kafka"], required=["nats", "rabbitmq", "kafka"]) as brokers:
            asyncio.run(run(brokers, directory, options.seconds))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
