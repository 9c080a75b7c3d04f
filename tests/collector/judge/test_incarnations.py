"""A topic, stream or queue that was deleted and made again is another one, though it bears the same name."""

from typing import Any

import pytest
from evidence_support import finding, looked, stood
from ledger_support import S, at, committed, in_kafka, judged, processed, sent, subscribed, take

from hopwatch_collector.engine import Store

OLD, NEW = "52cbe00d-0e3c-4a7a-8a55-3f6b1f0f9d11", "0b8d1e0a-93c1-4f57-9a43-6a2f3c1e7722"


@pytest.fixture(autouse=True)
def recreated(store: Store) -> None:
    """The topic `orders` is seen until 5 s into the story, and another of that name from 6 s on; billing is owed both."""
    take(store, subscribed("orders", "billing", system="kafka", start=-60.0))
    group(store, -60.0, OLD, end=0, next=0, done=0)
    group(store, 4.0, OLD, end=9, next=5, done=5)
    group(store, 5.0, OLD, state="gone")
    group(store, 6.0, NEW, end=0, next=0, done=0)
    looked(store, "kafka", 59.0)


def group(store: Store, seconds: float, incarnation: str, **stands: Any) -> None:
    """How billing stood in partition 0, of which `incarnation` of the topic."""
    place = {"destination": "orders", "partition": "0", "first": 0}
    stood(store, "kafka", "billing", seconds, **place, incarnation=incarnation, **stands)


def record(offset: int, start: float) -> S:
    """A record of `orders`."""
    return sent("orders", "kafka", start=start, **in_kafka(offset))


def aborted(store: Store, offset: int, seconds: float) -> None:
    """The witness saw that a transaction was aborted."""
    columns = ("day", "system", "receiver", "partition", "offset", "kind", "attempts", "at", "reason")
    when = at(seconds)
    row = [when.date(), "kafka", "billing", "orders:0", offset, "aborted", 0, when, ""]
    store.write("sightings", columns, [row])


def test_what_was_not_read_is_lost_with_its_topic(store: Store) -> None:
    """However far the group comes in the new topic, it will not read what was in the old one."""
    group(store, 20.0, NEW, end=30, next=30, done=30)
    tells, unread = record(4, 0.5), record(7, 1.0)
    take(store, tells, processed(tells, settle="none"), unread, committed("orders", 30, start=20.0))
    rows = judged(store, now=60.0)
    assert [row["cause"] for row in rows if row["offset"] == 7] == ["lost.recreated"]


def test_what_was_read_stays_read(store: Store) -> None:
    """The old topic's positions decide its records, also after it is gone."""
    take(store, record(4, 1.0))
    assert finding(store, 60.0) == "settled.uninstrumented"


def test_a_commit_in_the_old_topic_passes_nothing_in_the_new(store: Store) -> None:
    """The group had committed 9 of the old topic; the new one's first record waits."""
    group(store, 9.0, NEW, end=1, next=0, done=0)
    take(store, committed("orders", 9, start=2.0), record(0, 8.0))
    assert finding(store, 20.0) == "waiting.held"


def test_what_was_aborted_in_the_old_topic_is_not_in_the_new(store: Store) -> None:
    """What a broker said of an offset is said of the topic that was there then."""
    aborted(store, 3, 4.0)
    group(store, 9.0, NEW, end=4, next=0, done=0)
    take(store, record(3, 8.0))
    assert finding(store, 20.0) == "waiting.held"
    aborted(store, 3, 10.0)
    assert finding(store, 20.0) == "refused.aborted"


@pytest.mark.parametrize(("now", "cause"), [(20.0, "in_flight.unsettled"), (60.0, "unknown.recreated")])
def test_processed_when_the_topic_had_just_been_made_again(store: Store, now: float, cause: str) -> None:
    """Its commit was not told, and which topic's positions are meant is not known: it is not stuck for all that."""
    group(store, 9.0, NEW, end=1, next=1, done=1)
    just_then = record(0, 5.5)
    take(store, just_then, processed(just_then, settle="none", start=5.6))
    assert finding(store, now) == cause


@pytest.mark.parametrize(("now", "cause"), [(20.0, "waiting.no_evidence"), (60.0, "unknown.recreated")])
def test_sent_while_it_was_made_again(store: Store, now: float, cause: str) -> None:
    """Between two looks nobody knows which of the two it went to; commits and positions may be of either."""
    group(store, 9.0, NEW, end=9, next=9, done=9)
    take(store, record(2, 5.5), committed("orders", 9, start=9.0))
    assert finding(store, now) == cause


def test_an_incarnation_that_was_not_told_is_no_other(store: Store) -> None:
    """An older collector wrote none: its positions go on to count after the upgrade."""
    group(store, 9.0, "", end=3, next=0, done=0)
    group(store, 10.0, NEW, end=3, next=2, done=2)
    take(store, record(1, 8.0))
    assert finding(store, 20.0) == "settled.uninstrumented"


@pytest.mark.parametrize(
    ("first_next", "cause"),
    [(1, "waiting.held"), (10, "lost.recreated")],
    ids=["from the start", "from now on"],
)
def test_a_consumer_made_anew_for_the_same_stream(store: Store, first_next: int, cause: str) -> None:
    """It will be handed what the stream holds if it begins there; what lies before where it begins is not for it."""
    stream, receiver = "2026-01-01T00:00:00Z", "ORDERS/billing"
    place = {"partition": "ORDERS", "first": 1}
    stood(store, "nats", receiver, -60.0, **place, end=5, next=5, done=5, incarnation=f"{stream} a")
    stood(store, "nats", receiver, 4.0, **place, end=9, next=5, done=5, incarnation=f"{stream} a")
    stood(store, "nats", receiver, 5.0, partition="ORDERS", state="gone", incarnation=f"{stream} a")
    standing = {"end": 10, "next": first_next, "done": first_next}
    stood(store, "nats", receiver, 6.0, **place, **standing, incarnation=f"{stream} b")
    looked(store, "nats", 59.0)
    tells = sent("orders", "nats", start=0.1)
    at_7 = {"hopwatch__stream": "ORDERS", "hopwatch__sequence": 7}
    take(store, subscribed("orders", receiver, start=-60.0), tells, processed(tells, receiver))
    take(store, subscribed("orders", receiver, start=15.0), sent("orders", "nats", start=1.0, **at_7))
    assert [row["cause"] for row in judged(store, now=20.0) if row["offset"] == 7] == [cause]
