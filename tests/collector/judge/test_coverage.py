"""Silence says something only where everybody tells what they do: before and after, whole, and nobody beside them."""

from typing import Any

import pytest
from evidence_support import finding, looked, stood
from ledger_support import S, committed, in_kafka, judged, processed, sent, subscribed, take

from hopwatch_collector.engine import Store


def there(*moments: float, instance: str = "1", **told: Any) -> list[S]:
    """A process of billing says that it reads `orders`, at these moments."""
    return [
        subscribed("orders", "billing", system="kafka", start=moment, instance=instance).but(**told)
        for moment in moments
    ]


def group(store: Store, seconds: float, done: int, **told: Any) -> None:
    """How the group billing stood."""
    place = {"destination": "orders", "partition": "0", "first": 0, "end": 20, "next": done, "done": done}
    stood(store, "kafka", "billing", seconds, **{**place, **told})


@pytest.fixture
def record(store: Store) -> S:
    """A record at offset 7, which the group is seen past 6 s later; nobody tells of having read it."""
    one = sent("orders", "kafka", **in_kafka(7))
    take(store, one)
    group(store, -30.0, 5, consumers=1)
    group(store, 6.0, 9, consumers=1)
    looked(store, "kafka", 100.0)
    return one


@pytest.mark.usefixtures("record")
def test_passed_in_the_sight_of_one_that_tells(store: Store) -> None:
    """It was there before and after and says nothing of the record: it was skipped."""
    take(store, *there(-60.0, -15.0, 0.0, 15.0))
    assert finding(store, 20.0) == "skipped"


@pytest.mark.usefixtures("record")
def test_one_that_told_long_ago_does_not_tell_now(store: Store) -> None:
    """An instrumented process read the group once; who read it since tells nothing."""
    old = sent("orders", "kafka", start=-3000.0, **in_kafka(1))
    take(
        store,
        *there(-3000.0),
        old,
        processed(old, settle="none", start=-2999.0),
        committed("orders", 2, start=-2998.0),
    )
    assert {row["cause"] for row in judged(store, now=20.0) if row["offset"] == 7} == {
        "settled.uninstrumented"
    }


@pytest.mark.usefixtures("record")
def test_instrumenting_a_service_changes_nothing_of_before(store: Store) -> None:
    """It tells from today on: what was passed yesterday was not passed in its sight."""
    take(store, *there(-3000.0), *there(60.0, 75.0, instance="2"))
    assert finding(store, 90.0) == "settled.uninstrumented"


@pytest.mark.parametrize(("now", "cause"), [(20.0, "waiting.no_evidence"), (80.0, "unknown.coverage_gap")])
@pytest.mark.usefixtures("record")
def test_one_that_went_silent_may_have_processed_it(store: Store, now: float, cause: str) -> None:
    """Killed between processing and telling: first it may still tell, then nobody will know."""
    take(store, *there(-30.0, -15.0, 0.0))
    assert finding(store, now) == cause


@pytest.mark.usefixtures("record")
def test_another_member_does_not_speak_for_one_that_went_silent(store: Store) -> None:
    """Of two processes one was killed; which of them had the partition is not known."""
    take(store, *there(-30.0, 0.0), *there(-30.0, 0.0, 15.0, 30.0, 45.0, 60.0, 75.0, instance="2"))
    assert finding(store, 80.0) == "unknown.coverage_gap"


@pytest.mark.usefixtures("record")
def test_one_that_left_before_it_was_sent_is_no_doubt(store: Store) -> None:
    """A process that ended well before the record was there cannot have read it."""
    take(store, *there(-45.0, -30.0), *there(-30.0, 0.0, 15.0, instance="2"))
    assert finding(store, 20.0) == "skipped"


@pytest.mark.usefixtures("record")
def test_one_that_samples_does_not_tell_all(store: Store) -> None:
    """An application's own provider follows its sampler: what it does not tell it may have done."""
    take(store, *there(-30.0, 0.0, 15.0, hopwatch__ledger="sampled"))
    assert finding(store, 20.0) == "unknown.coverage_gap"
    take(store, *there(-30.0, 0.0, 15.0, hopwatch__ledger="whole", instance="2"))
    assert finding(store, 20.0) == "unknown.coverage_gap"


@pytest.mark.parametrize(("service", "cause"), [("billing", "unknown.coverage_gap"), ("mail", "skipped")])
@pytest.mark.usefixtures("record")
def test_one_that_could_not_be_instrumented_does_not_tell(store: Store, service: str, cause: str) -> None:
    """It says so, and may have read it, if it is of the service that reads as this group."""
    mute = [
        subscribed("", "*", system="kafka", start=moment, durable=False, instance="2").but(
            service=service, hopwatch__ledger="sampled"
        )
        for moment in (-15.0, 0.0, 15.0)
    ]
    take(store, *there(-60.0, -15.0, 0.0, 15.0), *mute)
    assert finding(store, 20.0) == cause


@pytest.mark.usefixtures("record")
def test_one_that_lost_spans_does_not_tell_all(store: Store) -> None:
    """It says itself that it lost some around the time at which the record was passed."""
    told = there(-30.0, 0.0, 15.0)
    lost = told[0].but(
        name="losses", start=2.0, end=12.0,
        hopwatch__report="losses", hopwatch__losses__id="a", hopwatch__lost__queue_full=100,
    )  # fmt: skip
    take(store, *told, lost)
    assert finding(store, 20.0) == "unknown.coverage_gap"


@pytest.mark.parametrize(
    ("members", "now", "cause"),
    [(1, 20.0, "skipped"), (2, 20.0, "waiting.no_evidence"), (2, 30.0, "settled.uninstrumented")],
)
def test_a_member_that_does_not_tell_may_have_read_it(
    store: Store, members: int, now: float, cause: str
) -> None:
    """The broker lists another member beside the one that tells; if it has only joined, it may yet tell that it is there."""
    take(store, sent("orders", "kafka", **in_kafka(7)), *there(-30.0, 0.0, 15.0, hopwatch__member="member-1"))
    group(store, -30.0, 5, consumers=members)
    group(store, 6.0, 9, consumers=members)
    looked(store, "kafka", 100.0)
    assert finding(store, now) == cause


def test_a_member_that_has_left_since_may_have_read_it(store: Store) -> None:
    """Who was in the group when the record was passed counts, not who is in it by now: what was settled stays."""
    told = there(*(-30.0 + 15 * number for number in range(12)), hopwatch__member="member-1")
    take(store, sent("orders", "kafka", **in_kafka(7)), *told)
    group(store, -30.0, 5, consumers=2)
    group(store, 6.0, 9, consumers=2)
    looked(store, "kafka", 30.0)
    assert finding(store, 30.0) == "settled.uninstrumented"
    group(store, 40.0, 9, consumers=1)
    group(store, 50.0, 9, consumers=0)
    looked(store, "kafka", 130.0)
    assert finding(store, 130.0) == "settled.uninstrumented"


@pytest.mark.parametrize(
    ("consumers", "cause"), [(1, "lost.dropped"), (2, "unknown.uninstrumented_consumers")]
)
def test_a_consumer_that_does_not_tell_may_have_taken_it(store: Store, consumers: int, cause: str) -> None:
    """Of two that came into a queue one was handed out, to whoever tells of it; the other is gone, and the queue had one
    more consumer than tell: what that took nobody tells."""
    took, gone = sent("billing", "rabbitmq"), sent("billing", "rabbitmq", start=0.5)
    told = [
        subscribed("billing", "billing", system="rabbitmq", start=start).but(hopwatch__member="mark-1")
        for start in (-60.0, 0.0, 15.0)
    ]
    take(store, *told, took, gone, processed(took, receiver="billing", start=1.0))
    quiet = {"waiting": 0, "in_hand": 0, "consumers": consumers}
    stood(store, "rabbitmq", "billing", -30.0, published=0, handed=0, acked=0, **quiet)
    stood(store, "rabbitmq", "billing", 3.0, published=2, handed=1, acked=1, **quiet)
    looked(store, "rabbitmq", 30.0)
    (row,) = [row for row in judged(store, now=30.0) if row["verdict"] != "settled"]
    assert row["cause"] == cause


def test_whoever_declares_a_queue_does_not_read_it(store: Store) -> None:
    """A sender that declares the queue says that it is there, not what is taken from it."""
    declared = [
        subscribed("billing", "billing", system="rabbitmq", start=start) for start in (-60.0, 0.0, 15.0)
    ]
    take(store, *declared, sent("billing", "rabbitmq"), sent("billing", "rabbitmq"))
    stood(store, "rabbitmq", "billing", -30.0, waiting=0, in_hand=0, published=0, handed=0, acked=0)
    stood(store, "rabbitmq", "billing", 3.0, waiting=0, in_hand=0, published=2, handed=1, acked=1)
    looked(store, "rabbitmq", 20.0)
    assert {row["cause"] for row in judged(store, now=20.0)} == {"unknown.uninstrumented_consumers"}
