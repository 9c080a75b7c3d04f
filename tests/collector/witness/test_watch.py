"""What a watch writes of titles that last, which go on for as long as they are seen; and what ends a watch."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from ledger_support import asked, at, sent, take
from scenario_support import watching

from hopwatch_collector.engine import Store
from hopwatch_collector.query.window import Window
from hopwatch_collector.witness import watch as watch_module
from hopwatch_collector.witness.model import Claim, Look, WitnessAway
from hopwatch_collector.witness.watch import write_claims
from hopwatch_collector.witness.written import Title
from hopwatch_demo.patience import scale_wait


class Steady:
    """A witness that sees the same receiver at every look."""

    system = "nats"
    broker = "nats:4222"

    def __init__(self, claim: Claim) -> None:
        self._claim = claim

    async def look(self) -> Look:
        return Look(frozenset({self._claim}))

    async def close(self) -> None: ...


@pytest.mark.parametrize("durable", [False, True])
async def test_a_title_goes_on_for_as_long_as_it_is_seen(store: Store, durable: bool) -> None:
    """A look of now renews what was first seen an hour ago, so that a message of now is owed."""
    claim = Claim("orders", "billing", durable=durable)
    watch = watching(Steady(claim), store)
    began = datetime.now(UTC) - timedelta(hours=1)
    row = watch._claim_row(Title(claim, began, ""), began, first=began)
    write_claims(store, [row])
    await watch.once()
    if durable:  # the day it was first written on is dropped
        store._writer.command(
            "ALTER TABLE durable_subscriptions DELETE WHERE last_at < now() - 60 SETTINGS mutations_sync = 1"
        )
    now = datetime.now(UTC)
    take(store, sent("orders", start=(now - at(0)).total_seconds()))
    window = Window(now - timedelta(minutes=10), now + timedelta(minutes=10))
    assert [one.receiver for one in asked(store).deliveries(window).deliveries] == ["billing"]


class Slow(Steady):
    """A witness whose broker takes its time."""

    looks = 0

    async def look(self) -> Look:
        self.looks += 1
        await asyncio.sleep(1.0)
        return await super().look()


async def test_a_slow_broker_is_asked_again_before_its_word_is_stale(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a look took, the next one comes after the longest rest, not after twenty times as long."""
    assert watch_module.LONGEST_REST_S < 15  # the judge takes for stale what was last seen 30 s ago
    monkeypatch.setattr(watch_module, "LONGEST_REST_S", 0.1)
    witness = Slow(Claim("orders", "billing", durable=True))
    watch = asyncio.create_task(watching(witness, store).run())
    try:
        async with asyncio.timeout(scale_wait(15)):
            while witness.looks < 2:
                await asyncio.sleep(0.05)
    finally:
        watch.cancel()
        await asyncio.wait({watch})


class Through:
    """A witness whose client library meets cancellations in its own way."""

    system = "kafka"
    broker = "kafka:9092"

    def __init__(self, library: Callable[[], Awaitable[None]]) -> None:
        self._library = library
        self.looks = 0
        self.closed = False

    async def look(self) -> Look:
        self.looks += 1
        await self._library()
        raise WitnessAway("no answer")

    async def close(self) -> None:
        self.closed = True


async def test_a_watch_ends_though_its_client_swallows_the_cancellation(store: Store) -> None:
    """As aiokafka's does when it is cancelled while it stops; nobody would ask a second time."""
    asked = asyncio.Event()

    async def swallows() -> None:
        asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    witness = Through(swallows)
    watch = asyncio.create_task(watching(witness, store).run())
    await asked.wait()
    watch.cancel()
    await asyncio.wait({watch}, timeout=scale_wait(20))
    ended, again = watch.cancelled(), watch.cancel()
    assert (ended, again, witness.looks, witness.closed) == (True, False, 1, True)


async def test_a_watch_goes_on_though_its_client_cancels_a_task_of_its_own(store: Store) -> None:
    """That is trouble with the broker, told as such; only whoever cancels the watch ends it."""

    async def gives_up() -> None:
        waiting = asyncio.create_task(asyncio.Event().wait())
        waiting.cancel()
        await waiting

    watch = watching(Through(gives_up), store)
    await watch.once()
    assert watch.trouble == "ConnectionAbortedError: given up by the client library"
