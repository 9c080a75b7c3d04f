"""What verdicts make of a broker's word: when it counts, when it does not yet, and when the witness is away."""

import pytest
from evidence_support import finding, looked, stood
from ledger_support import at, in_kafka, judged, processed, sent, subscribed, take

from hopwatch_collector.engine import Store


@pytest.fixture
def queue(store: Store) -> Store:
    """A queue that was empty before a message came."""
    take(store, subscribed("billing", "billing", system="rabbitmq", start=-60.0), sent("billing", "rabbitmq"))
    stood(store, "rabbitmq", "billing", -30.0, waiting=0, in_hand=0, published=0, handed=0, acked=0)
    return store


def test_counters_that_have_not_moved_say_nothing(queue: Store) -> None:
    """A queue's statistics from before the message are no proof that it is not there."""
    looked(queue, "rabbitmq", 20.0)
    assert finding(queue, 20.0) == "waiting.no_evidence"


def test_counters_in_motion_say_nothing(queue: Store) -> None:
    """What came in is counted at another moment than what is there: only what stands still adds up."""
    stood(queue, "rabbitmq", "billing", 3.0, waiting=0, in_hand=0, published=1, handed=0, acked=0)
    looked(queue, "rabbitmq", 5.0)
    assert finding(queue, 5.0) == "waiting.no_evidence"
    looked(queue, "rabbitmq", 11.0)
    assert finding(queue, 11.0) == "lost.dropped"


def test_a_queue_that_settled_all_it_got_settled_this_one(queue: Store) -> None:
    """As many acknowledgements as messages, and nothing left: whoever took it acknowledged it."""
    stood(queue, "rabbitmq", "billing", 3.0, waiting=0, in_hand=0, published=1, handed=1, acked=1)
    looked(queue, "rabbitmq", 11.0)
    assert finding(queue, 11.0) == "settled.uninstrumented"


def test_consumers_that_tell_nothing_leave_a_doubt(queue: Store) -> None:
    """Of two messages one was handed out and one dropped, nobody knows which: unknown, and what would settle it is said."""
    take(queue, sent("billing", "rabbitmq"))
    stood(queue, "rabbitmq", "billing", 3.0, waiting=0, in_hand=0, published=2, handed=1, acked=1)
    looked(queue, "rabbitmq", 11.0)
    assert {row["cause"] for row in judged(queue, now=11.0)} == {"unknown.uninstrumented_consumers"}


def test_a_message_in_a_clients_hands_that_tells_waits(queue: Store) -> None:
    """Fetched in advance by a consumer that tells what it processes, and not begun on: it still waits."""
    other = sent("billing", "rabbitmq", start=-5.0)
    there = subscribed("billing", "billing", system="rabbitmq", start=10.0)
    take(queue, other, processed(other, start=-4.0), there)
    stood(queue, "rabbitmq", "billing", 3.0, waiting=0, in_hand=1, published=1, handed=1, acked=0)
    looked(queue, "rabbitmq", 20.0)
    causes = {row["message"].hex(): row["cause"] for row in judged(queue, now=20.0)}
    assert sorted(causes.values()) == ["settled.ack", "waiting.prefetched"]
    looked(queue, "rabbitmq", 50.0)
    assert "overdue.prefetched" in {row["cause"] for row in judged(queue, now=50.0)}


def test_what_others_have_in_hand_they_may_have_had_since_it_was_sent(queue: Store) -> None:
    """When a consumer that tells nothing took it nobody knows: its time runs from the send."""
    stood(queue, "rabbitmq", "billing", 3.0, waiting=0, in_hand=1, published=1, handed=1, acked=0)
    looked(queue, "rabbitmq", 20.0)
    (row,) = judged(queue, now=20.0)
    assert (row["cause"], row["since"], row["due_at"]) == ("in_flight.uninstrumented", at(0), at(30))


@pytest.fixture
def log(store: Store) -> Store:
    """Kafka holds a message for a group."""
    take(
        store,
        subscribed("orders", "billing", system="kafka", start=-60.0),
        sent("orders", "kafka", **in_kafka(7)),
    )
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
    looked(store, "kafka", 5.0)
    return store


def test_what_rests_on_now_is_unknown_without_a_witness(log: Store) -> None:
    """The witness that could say whether the broker still holds it is away: after the deadline that is the verdict."""
    assert finding(log, 10.0) == "waiting.held"
    assert finding(log, 34.0) == "overdue.held"
    looked(log, "kafka", 40.0, ok=False)
    assert finding(log, 60.0) == "unknown.broker_unreachable"
    looked(log, "kafka", 65.0)
    assert finding(log, 70.0) == "overdue.held"


def test_what_was_seen_once_stays_true_without_a_witness(store: Store) -> None:
    """Nobody was owed it when the witness looked after the send: that does not change when the witness goes away."""
    take(store, sent("orders", "kafka", **in_kafka(7)))
    looked(store, "kafka", 5.0)
    assert finding(store, 10.0) == "no_receiver.broker"
    looked(store, "kafka", 20.0, ok=False)
    assert finding(store, 90.0) == "no_receiver.broker"


def test_a_witness_that_never_got_through_knows_nobody_and_nothing(store: Store) -> None:
    """Whether anybody was owed it, only the broker could have told: that is unknown, with the witness's trouble."""
    take(store, sent("orders", "kafka", **in_kafka(7)))
    looked(store, "kafka", 5.0, ok=False)
    assert finding(store, 10.0) == "waiting.no_receiver_yet"
    (row,) = judged(store, now=40.0)
    assert (row["cause"], row["why"]) == (
        "unknown.broker_unreachable",
        "the broker cannot be asked: login refused",
    )
