"""What is claimed where messages leave in another order than they came in, come in later than they were sent, or stay."""

from typing import Any

import pytest
from evidence_support import finding, looked, stood
from ledger_support import at, judged, sent, subscribed, take

from hopwatch_collector.engine import Store


@pytest.fixture
def queue(store: Store) -> Store:
    """A queue that was empty before messages came, read by consumers that tell nothing."""
    take(store, subscribed("billing", "billing", system="rabbitmq", start=-60.0))
    counted(store, -30.0)
    return store


def counted(store: Store, seconds: float, **told: Any) -> None:
    """How the queue's counters stood then."""
    stood(
        store, "rabbitmq", "billing", seconds,
        **{"waiting": 0, "in_hand": 0, "published": 0, "handed": 0, "acked": 0, **told},
    )  # fmt: skip


def causes(store: Store, now: float, **more: float) -> list[str]:
    """Causes in the order in which messages were sent."""
    return [row["cause"] for row in reversed(judged(store, now=now, **more))]


def two_sent(queue: Store, **told: Any) -> None:
    """Two messages 20 s apart; a consumer took one of them and acknowledged it, the other waits."""
    take(queue, sent("billing", "rabbitmq"), sent("billing", "rabbitmq", start=20.0))
    counted(queue, 3.0, waiting=1, published=1, **told)
    counted(
        queue,
        22.0,
        **{"waiting": 1, "published": 2, "handed": 1, "acked": 1, **told},
        unchanged_until=at(21.0),
    )
    looked(queue, "rabbitmq", 32.0)


@pytest.mark.parametrize(
    ("told", "first"),
    [({}, "settled.uninstrumented"), ({"kind": "unordered"}, "unknown.partly_settled")],
)
def test_only_in_a_queue_what_came_first_went_first(queue: Store, told: dict[str, Any], first: str) -> None:
    """With priorities, either may be the one that was taken."""
    two_sent(queue, **told)
    assert causes(queue, 40.0)[0] == first


def test_what_was_given_back_may_be_what_waits(queue: Store) -> None:
    """Two were handed out and one of them was given back: that may be the earlier one."""
    take(queue, sent("billing", "rabbitmq"), sent("billing", "rabbitmq", start=20.0))
    counted(queue, 3.0, waiting=1, published=1)
    counted(queue, 22.0, waiting=1, published=2, handed=2, acked=1, unchanged_until=at(21.0))
    looked(queue, "rabbitmq", 32.0)
    assert causes(queue, 60.0) == ["unknown.partly_settled", "unknown.partly_settled"]


def test_of_a_burst_some_are_taken(queue: Store) -> None:
    """Ten came between two looks and five were taken: which of them, counters do not tell; before the deadline all may wait."""
    take(queue, *(sent("billing", "rabbitmq", start=number / 100) for number in range(10)))
    counted(queue, 5.0, waiting=5, published=10, handed=5, acked=5)
    looked(queue, "rabbitmq", 50.0)
    assert set(causes(queue, 20.0)) == {"waiting.no_evidence"}
    assert set(causes(queue, 50.0)) == {"unknown.partly_settled"}


def test_behind_all_that_went(queue: Store) -> None:
    """What came behind a look is among those that wait, if as many wait as came since."""
    take(queue, sent("billing", "rabbitmq"), sent("billing", "rabbitmq", start=20.0))
    counted(queue, 3.0, waiting=1, published=1)
    counted(queue, 6.0, published=1, handed=1, acked=1, unchanged_until=at(5.0))
    counted(queue, 22.0, waiting=1, published=2, handed=1, acked=1, unchanged_until=at(21.0))
    looked(queue, "rabbitmq", 60.0)
    assert causes(queue, 60.0) == ["settled.uninstrumented", "overdue.held"]


def test_a_busy_queue_holds_nobody_in_particular(queue: Store) -> None:
    """A queue that never comes to rest, read by consumers that tell nothing: what was sent long ago is not overdue in it."""
    take(queue, sent("billing", "rabbitmq"))
    counted(queue, 100.0, waiting=3, published=500, handed=497, acked=497)
    looked(queue, "rabbitmq", 101.0)
    assert causes(queue, 101.0) == ["unknown.partly_settled"]


def test_one_of_several_in_hand(queue: Store) -> None:
    """Three came at once, two were acknowledged and one is held: any of them may be the one."""
    take(queue, *(sent("billing", "rabbitmq", start=number / 100) for number in range(3)))
    counted(queue, 5.0, in_hand=1, published=3, handed=3, acked=2)
    looked(queue, "rabbitmq", 60.0)
    assert set(causes(queue, 60.0)) == {"unknown.partly_settled"}


def test_counters_on_their_way_are_no_sum(queue: Store) -> None:
    """The last look before the send had counted a message that it did not see waiting yet: that one was taken, this one dropped."""
    take(queue, sent("billing", "rabbitmq", start=20.0))
    counted(queue, 18.0, published=1)
    counted(queue, 22.0, waiting=1, published=2, unchanged_until=at(21.0))
    counted(queue, 26.0, published=2, handed=1, acked=1, unchanged_until=at(25.0))
    looked(queue, "rabbitmq", 40.0)
    assert causes(queue, 60.0) == ["unknown.uninstrumented_consumers"]


@pytest.mark.parametrize(("consumers", "handed"), [(1, 4), (0, 0)])
def test_a_stream_is_never_overdue(queue: Store, consumers: int, handed: int) -> None:
    """Its messages stay whoever reads them: what was not seen to be read waits until its deadline, and is unknown from then on."""
    take(queue, sent("billing", "rabbitmq"))
    told = {"waiting": 4, "published": 4, "handed": handed, "consumers": consumers, "kind": "stream"}
    counted(queue, 5.0, **told)
    looked(queue, "rabbitmq", 60.0)
    assert causes(queue, 20.0) == ["waiting.no_evidence"]
    assert causes(queue, 60.0) == ["unknown.stream"]


def test_a_stream_that_was_deleted_may_have_been_read(queue: Store) -> None:
    """What it kept when it was deleted is not what nobody had read."""
    take(queue, sent("billing", "rabbitmq"))
    counted(queue, 5.0, waiting=1, published=1, kind="stream")
    counted(queue, 20.0, state="gone")
    looked(queue, "rabbitmq", 60.0)
    assert finding(queue, 60.0) == "unknown.receiver_deleted"


DELAYED = {"hopwatch__reason": "not before 3600 s"}


def bound(store: Store, pattern: str) -> None:
    """The queue billing is bound to an exchange that delays, and another message was delivered since this one was sent."""
    take(store, subscribed(pattern, "billing", system="rabbitmq", start=-60.0))
    counted(store, -30.0, uncounted=1)
    counted(store, 5.0, published=1, handed=1, acked=1, uncounted=1)
    looked(store, "rabbitmq", 60.0)


@pytest.mark.parametrize("outcome", ["confirmed", "returned", "sent"])
def test_a_delayed_message_waits_on_purpose(store: Store, outcome: str) -> None:
    """Whatever was delivered since, and though its exchange has nowhere to route it to before its delay is over."""
    bound(store, "delayed\x1flater:billing")
    take(store, sent("later:billing", "rabbitmq", outcome=outcome, **DELAYED))
    assert causes(store, 60.0) == ["waiting.delayed"]
    assert causes(store, 60.0, deadline=1.0) == ["waiting.delayed"]


def test_without_a_witness_too(store: Store) -> None:
    """That it is to be delivered later its sender says."""
    take(store, sent("later:billing", "rabbitmq", outcome="returned", **DELAYED))
    assert causes(store, 60.0) == ["waiting.delayed"]


def test_a_delay_that_is_over_counts_from_then_on(store: Store) -> None:
    """The deadline begins when the delay ends; and how many came, the queue's counters do not tell."""
    bound(store, "delayed\x1flater:billing")
    take(store, sent("later:billing", "rabbitmq", **{**DELAYED, "hopwatch__reason": "not before 10 s"}))
    assert causes(store, 9.0) == ["waiting.delayed"]
    assert causes(store, 60.0) == ["unknown.uncounted_dead_letters"]


def test_where_it_may_come_later_it_is_not_missing(store: Store) -> None:
    """A sender that does not tell of a delay may have asked for one: an empty queue that handed out nothing has lost nothing."""
    take(store, subscribed("delayed\x1flater:billing", "billing", system="rabbitmq", start=-60.0))
    counted(store, -30.0, uncounted=1)
    counted(store, 5.0, published=1, uncounted=1)
    take(store, sent("later:billing", "rabbitmq"))
    looked(store, "rabbitmq", 60.0)
    assert causes(store, 60.0) == ["unknown.uncounted_dead_letters"]


def test_only_a_delayed_message_may_come_back_for_a_delay(store: Store) -> None:
    """Another that was returned had nowhere to go."""
    take(store, sent("later:billing", "rabbitmq", outcome="returned", hopwatch__reason="312 NO_ROUTE"))
    assert causes(store, 60.0) == ["returned"]


def test_a_queue_that_delays(queue: Store) -> None:
    """What waits for its time to live in a queue that nobody ever read, which leads on to another, waits on purpose."""
    take(queue, sent("billing", "rabbitmq"))
    there = {"waiting": 1, "published": 1, "dead_letters": 1, "ttl_ms": 600_000}
    counted(queue, 3.0, **there, consumers=0)
    looked(queue, "rabbitmq", 60.0)
    assert finding(queue, 60.0) == "waiting.delayed"


def test_a_queue_with_a_time_to_live_that_is_read(queue: Store) -> None:
    """Where somebody reads, what waits is late."""
    take(queue, sent("billing", "rabbitmq"))
    there = {"waiting": 1, "published": 1, "dead_letters": 1, "ttl_ms": 600_000}
    counted(queue, 3.0, **there, consumers=1)
    looked(queue, "rabbitmq", 60.0)
    assert finding(queue, 60.0) == "overdue.held"


@pytest.mark.parametrize(("offset", "cause"), [(3, "stuck.uninstrumented"), (4, "unknown.partly_settled")])
def test_settled_behind_what_is_in_hand(store: Store, offset: int, cause: str) -> None:
    """JetStream settles in any order: with one of five in hand, only the first behind the floor is known to be it."""
    in_stream(store, offset, in_hand=1, handed=7, acked=2)
    assert finding(store, 60.0) == cause


@pytest.mark.parametrize(
    ("heard_from", "offset", "cause"),
    [
        (-1, 3, "dead_lettered.max_deliveries"),
        (-1, 4, "unknown.missed_advisory"),
        (0, 4, "settled.uninstrumented"),
    ],
)
def test_settled_behind_what_was_given_up(store: Store, heard_from: int, offset: int, cause: str) -> None:
    """The first behind the floor was given up; others may have been acknowledged, and were if nothing else was heard of them."""
    in_stream(store, offset, in_hand=0, handed=7, acked=2, heard_from=heard_from)
    assert finding(store, 60.0) == cause


def in_stream(store: Store, offset: int, **told: int) -> None:
    """A message in a stream whose consumer was handed seven and has settled those before the third, without a gap."""
    take(store, subscribed("orders", "S/legacy", start=-60.0))
    take(
        store,
        sent("orders", hopwatch__stream="S", hopwatch__sequence=offset),
    )
    place = {"partition": "S", "first": 0, "end": 9, "next": 8, "done": 3, "waiting": 1}
    stood(store, "nats", "S/legacy", 5.0, **place, **told)
    looked(store, "nats", 60.0)
