"""Instrumented producers and consumers on the real Kafka."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from transport_support import TIMEOUT_S, Consumers, Producers

from hopwatch.transports.aiokafka import AioKafkaInstrumentor


@pytest.fixture
def instrumented(hops: Any) -> Any:
    """The library, instrumented for one test."""
    AioKafkaInstrumentor().instrument(skip_dep_check=True)
    yield
    AioKafkaInstrumentor().uninstrument()


@pytest.fixture
async def produce(kafka_bootstrap: str, instrumented: None) -> AsyncIterator[Producers]:
    """Start instrumented producers; they are stopped at the end."""
    started: list[AIOKafkaProducer] = []

    async def start(**options: Any) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, **options)
        started.append(producer)
        await asyncio.wait_for(producer.start(), TIMEOUT_S)
        return producer

    yield start
    for producer in started:
        await asyncio.wait_for(producer.stop(), TIMEOUT_S)


@pytest.fixture
async def producer(produce: Producers) -> AIOKafkaProducer:
    """An instrumented producer."""
    return await produce()


@pytest.fixture
async def consume(kafka_bootstrap: str, instrumented: None, unique: str) -> AsyncIterator[Consumers]:
    """Start instrumented consumers of this test's topic; they are stopped at the end."""
    started: list[AIOKafkaConsumer] = []

    async def start(
        *topics: str, listener: ConsumerRebalanceListener | None = None, **options: Any
    ) -> AIOKafkaConsumer:
        options = {"group_id": f"{unique}-group", "auto_offset_reset": "earliest", **options}
        topics = topics or (unique,)
        consumer = AIOKafkaConsumer(
            *(() if listener else topics), bootstrap_servers=kafka_bootstrap, **options
        )
        if listener is not None:
            consumer.subscribe(topics, listener=listener)
        started.append(consumer)
        await asyncio.wait_for(consumer.start(), TIMEOUT_S)
        return consumer

    yield start
    for consumer in started:
        await asyncio.wait_for(consumer.stop(), TIMEOUT_S)


@pytest.fixture
async def two_partitions(kafka_bootstrap: str, unique: str) -> str:
    """This test's topic, with two partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await asyncio.wait_for(admin.start(), TIMEOUT_S)
    await admin.create_topics([NewTopic(unique, num_partitions=2, replication_factor=1)])
    await admin.close()
    return unique
