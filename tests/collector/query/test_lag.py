"""Lag by one definition for all brokers: what they hold, for how long, and where that is going."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from evidence_support import looked, stood
from ledger_support import T0, asked, in_kafka, sent, subscribed, take

from hopwatch_collector.engine import Store
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.query.lag import counted_once
from hopwatch_collector.witness.model import Claim, Look, Place, Position
from hopwatch_collector.witness.watch import STATE_COLUMNS, Watch


def seconds_ago(seconds: float) -> float:
    """That moment, in seconds into the story."""
    return (datetime.now(UTC) - T0).total_seconds() - seconds


class Scripted:
    """A witness that sees what the test says."""

    broker = "broker:1"

    def __init__(
        self, system: str, positions: dict[Place, Position], claims: frozenset[Claim] = frozenset()
    ) -> None:
        self.system = system
        self.seen = Look(claims, positions)

    async def look(self) -> Look:
        return self.seen

    async def hidden(self, missing: Collection[Place]) -> Mapping[Place, str]:
        return {}

    async def close(self) -> None: ...


async def see(store: Store, system: str, positions: dict[Place, Position]) -> None:
    """Have a witness look once."""
    await Watch(Scripted(system, positions), store, Metrics()).once()


def was(store: Store, system: str, place: Place, waiting: int, seconds: float) -> None:
    """Write down a position of so many seconds ago."""
    then = datetime.now(UTC) - timedelta(seconds=seconds)
    values: dict[str, Any] = dict.fromkeys(STATE_COLUMNS, -1) | {
        "day": then.date(), "system": system, "destination": place.destination, "receiver": place.receiver,
        "partition": place.partition, "at": then, "waiting": waiting, "oldest_at": datetime(1970, 1, 1, tzinfo=UTC),
        "dead_letters": 0, "state": "", "uncounted": 0,
    }  # fmt: skip
    store.write("receiver_states", STATE_COLUMNS, [[values[name] for name in STATE_COLUMNS]])


async def test_a_receiver_that_only_its_broker_knows(store: Store) -> None:
    """A group whose producers and consumers tell nothing is behind all the same, on each of its partitions."""
    old = datetime.now(UTC) - timedelta(seconds=90)
    await see(
        store,
        "kafka",
        {
            Place("billing", "0", "orders"): Position(
                first=0, end=9, next=5, done=5, waiting=4, oldest_at=old, consumers=0
            ),
            Place("billing", "1", "orders"): Position(first=0, end=7, next=7, done=7, waiting=0, consumers=0),
        },
    )
    (row,) = asked(store).lag().rows
    assert (row.destination, row.receiver, row.waiting, row.known_waiting, row.by_broker) == (
        "orders",
        "billing",
        4,
        0,
        True,
    )
    assert 90 <= row.oldest_s < 120
    assert row.consumers == 0
    assert [(one.partition, one.waiting) for one in row.partitions] == [("0", 4), ("1", 0)]


async def test_the_broker_knows_best(store: Store) -> None:
    """Of a receiver that services tell of too, the broker's number counts; what hopwatch saw is kept beside it."""
    start = seconds_ago(20)
    send = sent("orders", "kafka", start=start)
    take(store, subscribed("orders", "billing", system="kafka", start=start - 5), send)
    await see(
        store, "kafka", {Place("billing", "0", "orders"): Position(first=0, end=9, next=5, done=5, waiting=4)}
    )
    (row,) = asked(store).lag().rows
    assert (row.waiting, row.known_waiting, row.by_broker) == (4, 1, True)
    assert 17 < row.oldest_s < 60  # the broker does not tell how old, the ledger does
    assert row.sample_flow_ids == [send.trace.hex()]


async def test_a_queue_of_several_destinations_is_counted_once(store: Store) -> None:
    """The ledger's rows stay, the broker's sum gets a row without a destination, which sums leave out."""
    start = seconds_ago(20)
    subscriptions = [subscribed(to, "mail", system="rabbitmq", start=start - 5) for to in ("a", "b")]
    take(store, *subscriptions, sent("a", "rabbitmq", start=start), sent("b", "rabbitmq", start=start))
    await see(store, "rabbitmq", {Place("mail"): Position(waiting=5, in_hand=1, consumers=2)})
    rows = asked(store).lag().rows
    assert {(row.destination, row.waiting, row.by_broker) for row in rows} == {
        ("", 5, True),
        ("a", 1, False),
        ("b", 1, False),
    }
    assert {row.destination for row in counted_once(rows)} == {"a", "b"}


@pytest.mark.parametrize(
    ("before", "now", "growth", "drain"),
    [(4, 10, 0.02, None), (40, 10, -0.1, 100.0), (10, 10, 0.0, None), (8, 0, -8 / 300, 0.0)],
)
async def test_trend_and_time_to_drain(
    store: Store, before: int, now: int, growth: float, drain: float | None
) -> None:
    """Over five minutes: how fast the number grows, and when it will be gone if it shrinks."""
    was(store, "nats", Place("EVENTS/billing", "EVENTS"), before, seconds=600)
    await see(store, "nats", {Place("EVENTS/billing", "EVENTS"): Position(waiting=now)})
    (row,) = asked(store).lag().rows
    assert row.growth_per_s == pytest.approx(growth, rel=0.05)
    assert row.drain_s == (drain if drain is None else pytest.approx(drain, rel=0.05))


async def test_clocks_ahead_of_ours_make_no_negative_age(store: Store) -> None:
    """A sender whose clock is ahead does not make the oldest message wait for less than nothing."""
    ahead = datetime.now(UTC) + timedelta(minutes=5)
    await see(
        store,
        "kafka",
        {
            Place("billing", "0", "orders"): Position(
                first=0, end=1, next=0, done=0, waiting=1, oldest_at=ahead
            )
        },
    )
    (row,) = asked(store).lag().rows
    assert row.oldest_s == 0.0


@pytest.mark.parametrize("looked_again", [False, True])
async def test_clocks_behind_ours_make_no_great_age(store: Store, looked_again: bool) -> None:
    """A record five minutes old by its sender's clock is no older than the last look at which the log ended before it."""
    place = Place("billing", "0", "orders")
    log = {"destination": "orders", "partition": "0", "first": 0, "next": 7, "done": 7}
    stood(store, "kafka", "billing", seconds_ago(60), **log, end=7, waiting=0)
    if looked_again:
        looked(store, "kafka", seconds_ago(20))
    behind = datetime.now(UTC) - timedelta(seconds=310)
    sender = sent("orders", "kafka", start=seconds_ago(310), **in_kafka(7))
    take(store, subscribed("orders", "billing", system="kafka", start=seconds_ago(400)), sender)
    await see(store, "kafka", {place: Position(first=0, end=8, next=7, done=7, waiting=1, oldest_at=behind)})
    (row,) = asked(store).lag().rows
    assert row.waiting == 1
    assert (19 if looked_again else 59) < row.oldest_s < (40 if looked_again else 90)


async def test_what_the_ledger_knows_to_wait_is_no_younger_for_a_clock_ahead(store: Store) -> None:
    """A record from the future has waited as long as the ledger, which was told when it was sent, knows."""
    start = seconds_ago(20)
    take(
        store,
        subscribed("orders", "billing", system="kafka", start=start - 5),
        sent("orders", "kafka", start=start, **in_kafka(7)),
    )
    ahead = datetime.now(UTC) + timedelta(minutes=5)
    await see(
        store,
        "kafka",
        {
            Place("billing", "0", "orders"): Position(
                first=0, end=8, next=7, done=7, waiting=1, oldest_at=ahead
            )
        },
    )
    (row,) = asked(store).lag().rows
    assert (row.waiting, row.by_broker) == (1, True)
    assert 19 < row.oldest_s < 60


async def test_since_leaves_out_receivers_that_are_idle(store: Store) -> None:
    """Brokers name receivers that have had nothing for days; with `since` only those with something to do are told."""
    await see(
        store,
        "rabbitmq",
        {Place("mail"): Position(waiting=0, in_hand=0), Place("bills"): Position(waiting=2, in_hand=0)},
    )
    queries = asked(store)
    assert {row.receiver for row in queries.lag().rows} == {"mail", "bills"}
    assert {row.receiver for row in queries.lag(datetime.now(UTC) - timedelta(hours=2)).rows} == {"bills"}


async def test_a_receiver_that_is_gone_has_no_lag(store: Store) -> None:
    """A deleted durable is behind no longer."""
    witness = Scripted("nats", {Place("EVENTS/billing", "EVENTS"): Position(waiting=3)})
    watch = Watch(witness, store, Metrics())
    await watch.once()
    assert [row.waiting for row in asked(store).lag().rows] == [3]
    witness.seen = Look()
    await watch.once()
    assert asked(store).lag().rows == []


def test_rows_without_a_broker_are_what_services_showed(store: Store) -> None:
    """Nothing changes where no broker is asked."""
    take(
        store,
        subscribed("orders", "billing", system="kafka", start=seconds_ago(25)),
        sent("orders", "kafka", start=seconds_ago(20)),
    )
    (found,) = asked(store).lag().rows
    assert (found.waiting, found.by_broker, found.growth_per_s, found.partitions) == (1, False, None, [])


def test_two_clusters_are_behind_by_themselves(store: Store) -> None:
    """A topic and group of the same names in two clusters: what waits is what waits in both, whichever was looked at last."""
    place = {
        "destination": "orders",
        "receiver": "billing",
        "partition": "0",
        "first": 0,
        "end": 9,
        "next": 2,
        "done": 2,
    }
    now = datetime.now(UTC)
    for broker, waiting, seconds in (("cluster-a", 7, 30.0), ("cluster-b", 3, 10.0), ("", 100, 60.0)):
        when = (now - timedelta(seconds=seconds) - T0).total_seconds()
        stood(store, "kafka", seconds=when, broker=broker, waiting=waiting, in_hand=0, consumers=1, **place)
    (row,) = asked(store).lag().rows
    assert (row.destination, row.waiting) == ("orders", 10)
