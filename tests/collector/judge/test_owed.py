"""Who is owed a message: from where on, of which partition, and for how long."""

from typing import Any

import pytest
from evidence_support import finding, looked, stood
from ledger_support import at, in_kafka, judged, sent, subscribed, take, verdicts

from hopwatch_collector.engine import Store
from hopwatch_collector.witness.model import from_offset, in_partition


@pytest.mark.parametrize(
    ("pattern", "owed"),
    [
        (in_partition(1) + "orders", False),
        (in_partition(0) + "orders", True),
        ("maybe\x1f" + in_partition(1) + "orders", False),
        (from_offset(8) + "orders", False),
        (from_offset(7) + "orders", True),
        (from_offset(7) + in_partition(0) + "orders", True),
    ],
)
def test_what_is_said_before_a_pattern(store: Store, pattern: str, owed: bool) -> None:
    """A title may be to one partition only, and begin at an offset."""
    take(store, subscribed(pattern, system="kafka", start=-60.0), sent("orders", "kafka", **in_kafka(7)))
    assert verdicts(store) == ({"billing": "waiting"} if owed else {"": "no_receiver"})


def test_where_the_partition_was_not_told_it_may_be_any(store: Store) -> None:
    """A sender that got no answer does not know where its record is."""
    take(store, subscribed(in_partition(1) + "orders", system="kafka", start=-60.0), sent("orders", "kafka"))
    assert verdicts(store) == {"billing": "waiting"}


def test_no_pattern_is_taken_for_a_mark(store: Store) -> None:
    """A topic may be called as marks are."""
    take(
        store,
        subscribed("partition 1", system="kafka", start=-60.0),
        sent("partition 1", "kafka", **in_kafka(7)),
    )
    assert verdicts(store) == {"billing": "waiting"}


def stands(store: Store, seconds: float, consumers: int, **told: Any) -> None:
    """The group billing stands before the record at offset 7."""
    place = {
        "destination": "orders",
        "partition": "0",
        "first": 0,
        "end": 9,
        "next": 7,
        "done": 7,
        "waiting": 2,
    }
    state = "" if consumers else "empty"
    stood(store, "kafka", "billing", seconds, **{**place, "consumers": consumers, "state": state, **told})


@pytest.mark.parametrize(
    ("deserted", "cause"),
    [(-3700.0, "waiting.left_over"), (-3500.0, "overdue.held"), (-4000.0, "waiting.left_over")],
)
def test_a_group_that_nobody_has_been_in_for_long(store: Store, deserted: float, cause: str) -> None:
    """What is sent to it more than an hour later waits in case somebody comes, and is not overdue."""
    take(store, subscribed("orders", system="kafka", start=-9000.0), sent("orders", "kafka", **in_kafka(7)))
    stands(store, -4500.0, 1, end=7, waiting=0)
    stands(store, deserted, 0, end=7, waiting=0)
    stands(store, 1.0, 0)
    looked(store, "kafka", 60.0)
    assert finding(store, 60.0) == cause


def test_a_group_that_somebody_is_in_again(store: Store) -> None:
    """Whoever comes is owed what waits."""
    take(store, subscribed("orders", system="kafka", start=-9000.0), sent("orders", "kafka", **in_kafka(7)))
    stands(store, -8000.0, 0, end=7, waiting=0)
    stands(store, 1.0, 1)
    looked(store, "kafka", 60.0)
    assert finding(store, 60.0) == "overdue.held"


def test_a_group_that_was_never_looked_at_before(store: Store) -> None:
    """For how long nobody has been in it is not known: its messages are late."""
    take(store, subscribed("orders", system="kafka", start=-9000.0), sent("orders", "kafka", **in_kafka(7)))
    stands(store, 1.0, 0)
    looked(store, "kafka", 60.0)
    assert finding(store, 60.0) == "overdue.held"


@pytest.mark.parametrize(
    ("group", "cause"),
    [("billing", "lost.receiver_deleted"), ("console-consumer-17", "no_receiver.left_over")],
)
def test_a_group_that_went(store: Store, group: str, cause: str) -> None:
    """A broker forgets groups that nobody comes back to: what was sent to one that was left over is not lost."""
    take(
        store,
        subscribed("orders", group, system="kafka", start=-60.0),
        sent("orders", "kafka", **in_kafka(7)),
    )
    place = {
        "destination": "orders",
        "partition": "0",
        "first": 0,
        "end": 9,
        "next": 7,
        "done": 7,
        "waiting": 2,
    }
    kind = "made up" if group.startswith("console") else ""
    stood(store, "kafka", group, 1.0, **place, consumers=0, state="empty", kind=kind)
    stood(store, "kafka", group, 5.0, destination="orders", partition="0", state="gone")
    looked(store, "kafka", 60.0)
    assert finding(store, 60.0) == cause


@pytest.mark.parametrize(("consumers", "cause"), [(0, "evicted.retention"), (1, "unknown.evicted")])
def test_how_far_a_group_has_read_its_commits_tell_late(store: Store, consumers: int, cause: str) -> None:
    """What was removed behind a group's last commit may have been read by its members, if there are any."""
    take(store, subscribed("orders", system="kafka", start=-60.0), sent("orders", "kafka", **in_kafka(7)))
    stands(store, 1.0, consumers)
    stands(store, 5.0, consumers, first=9, waiting=0)
    stands(store, 9.0, consumers, first=9, waiting=0, next=9, done=9)
    looked(store, "kafka", 60.0)
    assert finding(store, 60.0) == cause


@pytest.mark.parametrize(("durable", "cause"), [(True, "lost.receiver_deleted"), (False, "no_receiver.left")])
def test_a_receiver_that_went(store: Store, durable: bool, cause: str) -> None:
    """One that lasts is missed with what waited for it; one that lasts only while somebody is connected has left."""
    take(
        store,
        subscribed("orders", "S/x", start=-1.0, durable=durable),
        sent("orders", hopwatch__stream="S", hopwatch__sequence=7),
    )
    place = {"partition": "S", "first": 1, "end": 8, "next": 7, "done": 7, "waiting": 1, "in_hand": 0}
    stood(store, "nats", "S/x", 1.0, **place)
    stood(store, "nats", "S/x", 5.0, partition="S", state="gone")
    looked(store, "nats", 60.0)
    assert finding(store, 60.0) == cause


@pytest.mark.parametrize(("now", "cause"), [(20.0, "waiting.no_evidence"), (60.0, "unknown.no_position")])
def test_a_copy_in_another_stream_lies_somewhere_else(store: Store, now: float, cause: str) -> None:
    """A consumer of a stream that copied the message is owed it; how it stands there says nothing of the offset here."""
    take(
        store,
        subscribed("orders", "COPY/x", start=-1.0),
        sent("orders", hopwatch__stream="S", hopwatch__sequence=7),
    )
    stood(
        store,
        "nats",
        "COPY/x",
        1.0,
        partition="COPY",
        first=1,
        end=99,
        next=99,
        done=99,
        waiting=0,
        in_hand=0,
    )
    looked(store, "nats", 60.0)
    assert finding(store, now) == cause


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        ({"published": 900, "handed": 900, "acked": 900}, "settled.uninstrumented"),
        ({"published": 3, "handed": 3, "acked": 3}, "unknown.counters_reset"),
    ],
)
def test_counters_begin_anew_where_they_fell(store: Store, told: dict[str, int], cause: str) -> None:
    """A collector that was away sees them higher than ever, of a queue that says when it began otherwise than before."""
    take(store, subscribed("billing", "billing", system="rabbitmq", start=-60.0))
    before = {"waiting": 0, "in_hand": 0, "published": 5, "handed": 5, "acked": 5}
    stood(store, "rabbitmq", "billing", -30.0, **before, first=1000, incarnation="1000000")
    take(store, sent("billing", "rabbitmq"))
    stood(
        store,
        "rabbitmq",
        "billing",
        400.0,
        waiting=0,
        in_hand=0,
        **told,
        first=990,
        unchanged_until=at(-20.0),
    )
    looked(store, "rabbitmq", 420.0)
    assert [row["cause"] for row in judged(store, now=420.0)] == [cause]
