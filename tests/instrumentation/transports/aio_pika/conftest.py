"""Instrumented connections to the real RabbitMQ."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest
from transport_support import TIMEOUT_S

from hopwatch.transports.aio_pika import AioPikaInstrumentor


@pytest.fixture
async def connection(rabbitmq_url: str, hops: Any) -> AsyncIterator[Any]:
    """An instrumented robust connection."""
    AioPikaInstrumentor().instrument(skip_dep_check=True)
    connection = await asyncio.wait_for(aio_pika.connect_robust(rabbitmq_url), TIMEOUT_S)
    yield connection
    await asyncio.wait_for(connection.close(), TIMEOUT_S)
    AioPikaInstrumentor().uninstrument()


@pytest.fixture
async def channel(connection: Any) -> Any:
    """A channel with publisher confirms, as is the default."""
    return await connection.channel()
