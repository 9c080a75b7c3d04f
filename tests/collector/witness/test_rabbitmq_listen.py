"""A listener on RabbitMQ whose broker falls silent: what it waits for can be cancelled, and what gives up is told."""

import asyncio
from collections.abc import AsyncIterator

import aiormq
import pytest
from wire import Wire, wired

from hopwatch_collector.witness.model import WitnessAway
from hopwatch_collector.witness.rabbitmq_listen import Listener


@pytest.fixture
async def listening(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Listener, Wire]]:
    """A listener that listens, and its wire to the broker; after two seconds of silence its client gives up."""
    monkeypatch.setattr(aiormq.Connection, "HEARTBEAT_GRACE_MULTIPLIER", 1)
    async with wired(rabbitmq_url) as (wire, url):
        listener = Listener(f"{url}?heartbeat=1", "amq.topic", lambda _: None, lambda: False)
        assert (await listener.check()).anew
        yield listener, wire
        await listener.close()


async def test_it_can_be_cancelled_while_it_disconnects(listening: tuple[Listener, Wire]) -> None:
    """Whoever cancels it while the broker does not answer its goodbye sees it cancelled."""
    listener, wire = listening
    wire.muted = True
    closing = asyncio.create_task(listener.close())
    while listener.channel is not None:
        await asyncio.sleep(0)
    assert closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing


async def test_a_client_that_gives_up_is_a_witness_away(listening: tuple[Listener, Wire]) -> None:
    """The client cancels what waits for an answer; nobody cancelled the listener, which is there again when the broker is."""
    listener, wire = listening
    wire.muted = True
    with pytest.raises(WitnessAway, match="given up by the client library"):
        await listener.check()
    wire.muted = False
    assert (await listener.check()).anew
