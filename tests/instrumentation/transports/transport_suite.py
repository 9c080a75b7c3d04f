"""What suites that run on every broker have in common: an instrumented connection, and which broker it is to."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from transport_adapters import Adapter, Incoming, Kafka, Nats, Oops, RabbitMQ
from transport_support import TIMEOUT_S


class OnBroker:
    """A suite for one broker after the other."""

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


@pytest.mark.nats
class OnNats(OnBroker):
    """On NATS."""

    adapter = Nats

    @pytest.fixture
    def url(self, nats_url: str) -> str:
        """Where the broker is."""
        return nats_url


@pytest.mark.rabbitmq
class OnRabbitMQ(OnBroker):
    """On RabbitMQ."""

    adapter = RabbitMQ

    @pytest.fixture
    def url(self, rabbitmq_url: str) -> str:
        """Where the broker is."""
        return rabbitmq_url


@pytest.mark.kafka
class OnKafka(OnBroker):
    """On Kafka."""

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
