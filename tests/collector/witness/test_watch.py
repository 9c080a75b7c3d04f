"""What a watch writes of titles that last: they go on for as long as they are seen, and begin when they began."""

from datetime import UTC, datetime, timedelta

import pytest
from ledger_support import at, sent, take
from scenario_support import watching

from hopwatch_collector.engine import Store
from hopwatch_collector.query import Queries
from hopwatch_collector.query.window import Window
from hopwatch_collector.witness.model import Claim, Look
from hopwatch_collector.witness.watch import _CLAIM_COLUMNS


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
    row = watch._claim_row(claim, began, first=began)
    store.write("receivers", _CLAIM_COLUMNS, [row])
    await watch.once()
    if durable:  # the day it was first written on is dropped
        store._writer.command(
            "ALTER TABLE receivers DELETE WHERE last_at < now() - 60 SETTINGS mutations_sync = 1"
        )
    now = datetime.now(UTC)
    take(store, sent("orders", start=(now - at(0)).total_seconds()))
    window = Window(now - timedelta(minutes=10), now + timedelta(minutes=10))
    assert [one.receiver for one in Queries(store).deliveries(window).deliveries] == ["billing"]
