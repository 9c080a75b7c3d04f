"""Instrumented connections to the real NATS, and JetStream with a stream of the test's own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from transport_support import TIMEOUT_S

from hopwatch.transports.nats import NatsInstrumentor
from hopwatch_demo.patience import scale_wait


@pytest.fixture
async def errors() -> list[Exception]:
    """What nats-py's error callback was told."""
    return []


@pytest.fixture
async def client(nats_url: str, hops: Any, errors: list[Exception]) -> AsyncIterator[Client]:
    """An instrumented connection."""
    NatsInstrumentor().instrument(skip_dep_check=True)

    async def note(error: Exception) -> None:
        errors.append(error)

    client = await asyncio.wait_for(
        nats.connect(nats_url, error_cb=note, connect_timeout=scale_wait(20)), TIMEOUT_S
    )
    yield client
    await asyncio.wait_for(client.close(), TIMEOUT_S)
    NatsInstrumentor().uninstrument()


@pytest.fixture
async def js(client: Client, unique: str) -> AsyncIterator[Any]:
    """JetStream with a stream of this test's own."""
    js = client.jetstream(timeout=scale_wait(10))
    await js.add_stream(name=unique, subjects=[f"{unique}.>"])
    yield js
    await js.delete_stream(unique)
