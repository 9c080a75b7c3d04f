"""What verdicts make of a log: seeks that consumers report, settlements nobody heard of, receivers out of sight."""

import pytest
from evidence_support import finding, looked, stood
from ledger_support import S, at, committed, in_kafka, judged, moved, processed, sent, subscribed, take

from hopwatch_collector.engine import Store


@pytest.fixture
def send(store: Store) -> S:
    """A record at offset 7 that the group billing is owed; no broker is watched."""
    one = sent("orders", "kafka", **in_kafka(7))
    take(store, subscribed("orders", "billing", system="kafka", start=-60.0), one)
    return one


def test_a_seek_past_a_record_skips_it_at_once(store: Store, send: S) -> None:
    """The consumer itself says that it jumped over it: no commit and no broker is needed, and it is the witness."""
    take(store, moved(5, 9))
    (row,) = judged(store, now=2.1)
    assert (row["verdict"], row["cause"]) == ("skipped", "skipped.seek")
    assert row["why"] == "its consumer was moved past it by a seek"
    assert row["witnesses"] == ["producer", "consumer"]
    assert row["since"] == at(2.0)


def test_a_later_read_settles_what_a_seek_skipped(store: Store, send: S) -> None:
    """Sought back to and read, it is settled like any other, in whatever order the reports come."""
    take(
        store,
        processed(send, settle="none", start=5.0),
        committed("orders", 8, start=6.0),
        moved(9, 7, start=4.0),
        moved(5, 9),
    )
    assert finding(store, 10.0) == "settled.committed"


def test_a_seek_back_takes_the_skip_back(store: Store, send: S) -> None:
    """What lies ahead of the consumer again is owed again; the latest seek over it counts."""
    take(store, moved(5, 9), moved(9, 6, start=3.0))
    assert finding(store, 10.0) == "waiting.no_evidence"
    take(store, moved(6, 20, start=4.0))
    assert finding(store, 10.0) == "skipped.seek"


@pytest.mark.parametrize(
    "elsewhere",
    [
        moved(5, 7),
        moved(8, 9),
        moved(5, 9, partition="1"),
        moved(5, 9, topic="refunds"),
        moved(5, 9, start=-300.0),
    ],
    ids=["before it", "behind it", "other partition", "other topic", "before it was sent"],
)
def test_seeks_elsewhere_skip_nothing(store: Store, send: S, elsewhere: S) -> None:
    """Only a seek over this very offset, of this topic and partition, after it was sent, skips a record."""
    take(store, elsewhere)
    assert finding(store, 10.0) == "waiting.no_evidence"


def test_a_seek_is_told_from_a_commit_without_a_trace(store: Store, send: S) -> None:
    """Where a commit passed it too, the seek is the reason given."""
    take(store, moved(5, 9), committed("orders", 9, start=3.0))
    assert finding(store, 10.0) == "skipped.seek"


@pytest.fixture
def durable(store: Store) -> Store:
    """A message at sequence 7 of a stream that a durable is owed."""
    take(
        store,
        subscribed("orders", "ORDERS/billing", start=-60.0),
        sent("orders", hopwatch__stream="ORDERS", hopwatch__sequence=7),
    )
    return store


def _stands(store: Store, seconds: float, **told: int) -> None:
    """How the durable stands; where nothing else is said the message waits."""
    place = {"partition": "ORDERS", "first": 1, "end": 8, "next": 7, "done": 7, "waiting": 1, "in_hand": 0}
    stood(store, "nats", "ORDERS/billing", seconds, **(place | told))
    looked(store, "nats", seconds)


def test_settled_only_where_all_was_heard(durable: Store) -> None:
    """The server's floor passes what was acknowledged, terminated and given up alike: only who listened knows which."""
    _stands(durable, 1.0, heard_from=7)
    _stands(durable, 2.0, heard_from=7, next=8, done=8, waiting=0)
    assert finding(durable, 10.0) == "settled.uninstrumented"


def test_ended_while_nobody_listened(durable: Store) -> None:
    """Heard before and after, but not when it ended: unknown; a late span may still be on its way for a few seconds."""
    _stands(durable, 1.0, heard_from=7)
    _stands(durable, 2.0, heard_from=8, next=8, done=8, waiting=0)
    assert finding(durable, 4.0) == "waiting.no_evidence"
    assert finding(durable, 10.0) == "unknown.missed_advisory"


def test_ended_unheard_after_it_was_given_back(store: Store) -> None:
    """Its consumer gave it back, and what became of it then nobody heard."""
    send = sent("orders", hopwatch__stream="ORDERS", hopwatch__sequence=7)
    take(store, send, processed(send, "ORDERS/billing", settle="nack"))
    _stands(store, 2.0, heard_from=8, next=8, done=8, waiting=0)
    assert finding(store, 10.0) == "unknown.missed_advisory"


def test_neither_settled_nor_in_hand(durable: Store) -> None:
    """Handed out, not settled, in nobody's hands and still in the stream: given up. In somebody's hands: not yet."""
    _stands(durable, 1.0, heard_from=8, next=8, in_hand=1, waiting=0)
    assert finding(durable, 5.0) == "in_flight.uninstrumented"
    _stands(durable, 2.0, heard_from=8, next=8, in_hand=0, waiting=0)
    assert finding(durable, 5.0) == "dead_lettered.max_deliveries"


def test_out_of_sight(store: Store, send: S) -> None:
    """What the witness can no longer see is not as it last stood: unknown after the deadline, with what is missing."""
    place = {
        "destination": "orders",
        "partition": "0",
        "first": 0,
        "end": 8,
        "next": 5,
        "done": 5,
        "waiting": 3,
    }
    stood(store, "kafka", "billing", 2.0, **place)
    stood(store, "kafka", "billing", 3.0, **place, state="hidden")
    looked(store, "kafka", 40.0)
    assert finding(store, 5.0) == "waiting.no_evidence"
    assert finding(store, 41.0) == "unknown.no_permission"


def test_what_was_passed_before_it_went_out_of_sight(store: Store, send: S) -> None:
    """That a group that tells nothing had committed past it stays true."""
    place = {
        "destination": "orders",
        "partition": "0",
        "first": 0,
        "end": 8,
        "next": 8,
        "done": 8,
        "waiting": 0,
    }
    stood(store, "kafka", "billing", 2.0, **place, state="hidden")
    looked(store, "kafka", 40.0)
    assert finding(store, 41.0) == "settled.uninstrumented"


def test_deleted_while_it_was_reading(durable: Store) -> None:
    """A receiver that tells nothing and had gone on reading may have read it before it was deleted; one that had not is lost to."""
    _stands(durable, 1.0)
    stood(durable, "nats", "ORDERS/billing", 3.0, partition="ORDERS", state="gone")
    looked(durable, "nats", 4.0)
    assert finding(durable, 10.0) == "lost.receiver_deleted"
    _stands(durable, 0.5, next=6, done=6)
    assert finding(durable, 10.0) == "unknown.receiver_deleted"


def test_settled_before_it_was_deleted(durable: Store) -> None:
    """What a receiver had settled when it was last seen stays settled when it is deleted."""
    _stands(durable, 1.0, heard_from=7)
    _stands(durable, 2.0, heard_from=7, next=8, done=8, waiting=0)
    stood(durable, "nats", "ORDERS/billing", 3.0, partition="ORDERS", state="gone")
    looked(durable, "nats", 4.0)
    assert finding(durable, 10.0) == "settled.uninstrumented"


def test_another_of_that_name_was_deleted_before(durable: Store) -> None:
    """Where a receiver of that name stood before it was deleted says nothing of what was sent after."""
    _stands(durable, -20.0, heard_from=1, next=90, done=90, end=90, waiting=0)
    stood(durable, "nats", "ORDERS/billing", -10.0, partition="ORDERS", state="gone")
    looked(durable, "nats", 4.0)
    assert finding(durable, 10.0) == "waiting.no_evidence"


@pytest.mark.parametrize(("now", "cause"), [(10.0, "waiting.no_evidence"), (60.0, "unknown.no_position")])
def test_a_record_whose_place_was_not_told(store: Store, now: float, cause: str) -> None:
    """Sent without waiting for an answer (`acks=0`): a group that has read all there is may have read it, or it was never stored."""
    there = [
        subscribed("orders", "billing", system="kafka", start=start)
        for start in (-60.0, 0.0, 15.0, 30.0, 45.0)
    ]
    take(store, *there, sent("orders", "kafka", outcome="sent"))
    place = {"destination": "orders", "partition": "0", "first": 0, "end": 9, "next": 9, "done": 9}
    stood(store, "kafka", "billing", 2.0, **place)
    looked(store, "kafka", 59.0)
    assert finding(store, now) == cause
