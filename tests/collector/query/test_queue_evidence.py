"""What verdicts make of a queue's counters where messages expire by themselves, or come in uncounted."""

from typing import Any

import pytest
from evidence_support import finding, looked, stood
from ledger_support import at, judged, processed, sent, subscribed, take

from hopwatch_collector.engine import Store


@pytest.fixture
def queue(store: Store) -> Store:
    """A queue that was empty before a message came."""
    take(store, subscribed("billing", "billing", system="rabbitmq", start=-60.0))
    stood(store, "rabbitmq", "billing", -30.0, waiting=0, in_hand=0, published=0, handed=0, acked=0)
    return store


def gone_by(queue: Store, seconds: float, **told: Any) -> None:
    """The queue is seen empty then, with one message that came in, and is still so ten seconds later."""
    counted = {"waiting": 0, "in_hand": 0, "published": 1, "handed": 0, "acked": 0, **told}
    stood(queue, "rabbitmq", "billing", seconds, **counted)
    looked(queue, "rabbitmq", seconds + 10.0)


@pytest.mark.parametrize(("dead_letters", "cause"), [(0, "expired"), (1, "dead_lettered.expired")])
def test_a_message_expires_by_its_own_time(queue: Store, dead_letters: int, cause: str) -> None:
    """What its queue dropped when its own time to live was over has expired, to the dead letters where there are some."""
    take(queue, sent("billing", "rabbitmq", hopwatch__message__ttl=2000))
    gone_by(queue, 3.0, dead_letters=dead_letters)
    assert finding(queue, 13.0) == cause


def test_a_message_that_went_before_its_time_did_not_expire(queue: Store) -> None:
    """What was dropped while it still had time was dropped for another reason."""
    take(queue, sent("billing", "rabbitmq", hopwatch__message__ttl=60_000))
    gone_by(queue, 3.0)
    assert finding(queue, 13.0) == "lost.dropped"


def test_the_shorter_time_counts(queue: Store) -> None:
    """The queue's time to live ends a message whose own would have been longer."""
    take(queue, sent("billing", "rabbitmq", hopwatch__message__ttl=60_000))
    gone_by(queue, 3.0, ttl_ms=1000)
    assert finding(queue, 13.0) == "expired"


@pytest.mark.parametrize("told", ["soon", "-1", "9" * 40, ""])
def test_a_time_to_live_that_makes_no_sense_is_none(queue: Store, told: str) -> None:
    """Nothing that a sender may write there stops the batch or counts as a time."""
    take(queue, sent("billing", "rabbitmq", hopwatch__message__ttl=told))
    gone_by(queue, 3.0)
    assert finding(queue, 13.0) == "lost.dropped"


def test_given_back_and_expired(queue: Store) -> None:
    """A message that was given back and then outlived its time has expired: nobody purged it."""
    send = sent("billing", "rabbitmq", hopwatch__message__ttl=2000)
    there = subscribed("billing", "billing", system="rabbitmq", start=10.0)
    take(queue, send, processed(send, start=0.5, settle="requeue"), there)
    gone_by(queue, 3.0, handed=1)
    assert finding(queue, 13.0) == "expired"


def test_as_many_acknowledgements_as_messages_prove_nothing_where_dead_letters_come_in(queue: Store) -> None:
    """A dead letter may have been acknowledged and the message purged: which of them, counters cannot tell."""
    take(queue, sent("billing", "rabbitmq"))
    gone_by(queue, 3.0, handed=1, acked=1, uncounted=1)
    assert finding(queue, 13.0) == "unknown.uncounted_dead_letters"


def test_a_queue_that_handed_out_nothing_dropped_all(queue: Store) -> None:
    """Whatever came in uncounted, an empty queue that handed out nothing since has dropped the message."""
    take(queue, sent("billing", "rabbitmq"))
    gone_by(queue, 3.0, published=0, uncounted=1)
    assert finding(queue, 13.0) == "lost.dropped"


def test_dead_letters_that_wait_do_not_hold_the_message(queue: Store) -> None:
    """That something waits does not mean that this one does, where others come in uncounted and some were taken."""
    take(queue, sent("billing", "rabbitmq"))
    gone_by(queue, 3.0, waiting=1, handed=1, acked=1, uncounted=1)
    assert finding(queue, 13.0) == "unknown.uncounted_dead_letters"


def test_dead_letters_may_have_pushed_the_message_out(queue: Store) -> None:
    """A queue of limited length that is as long as what came in counted may hold what came in uncounted instead."""
    take(queue, sent("billing", "rabbitmq"))
    gone_by(queue, 3.0, waiting=1, max_length=1, uncounted=1)
    assert finding(queue, 13.0) == "unknown.uncounted_dead_letters"


def test_what_came_first_was_taken_first(queue: Store) -> None:
    """Where consumers that tell nothing took what came before the messages that wait, the earlier one is settled."""
    take(queue, sent("billing", "rabbitmq"), sent("billing", "rabbitmq", start=20.0))
    stood(queue, "rabbitmq", "billing", 3.0, waiting=1, in_hand=0, published=1, handed=0, acked=0)
    changed = {"waiting": 1, "published": 2, "handed": 1, "acked": 1}
    gone_by(queue, 22.0, **changed, unchanged_until=at(21.0))
    assert [row["cause"] for row in judged(queue, now=32.0)] == ["waiting.held", "settled.uninstrumented"]


def test_a_queue_whose_node_is_down_has_lost_nothing(queue: Store) -> None:
    """A queue of which the broker tells no figures is not an empty one."""
    take(queue, sent("billing", "rabbitmq"))
    gone_by(queue, 3.0, waiting=-1, in_hand=-1, published=0)
    assert finding(queue, 13.0) == "waiting.no_evidence"


def test_what_is_rejected_is_not_missing_among_what_waits(queue: Store) -> None:
    """Of 20 sent at once 3 are rejected into dead letters and 2 acknowledged: the 15 that wait are those nobody was handed.

    A reject is counted as handed out and never as acknowledged, and the first look after the send comes late: a count from
    before it is no bound for how many came before the message.
    """
    sends = [sent("billing", "rabbitmq", start=number / 1000) for number in range(20)]
    rejected = [processed(one, settle="reject", start=8.5) for one in sends[:3]]
    done = [processed(one, start=8.6) for one in sends[3:5]]
    there = [subscribed("billing", "billing", system="rabbitmq", start=start) for start in (0.0, 15.0, 30.0)]
    take(queue, *sends, *rejected, *done, *there)
    counted = {"waiting": 15, "in_hand": 0, "published": 20, "handed": 5, "acked": 2, "dead_letters": 1}
    stood(queue, "rabbitmq", "billing", 9.0, **counted)
    looked(queue, "rabbitmq", 20.0)
    causes = [row["cause"] for row in judged(queue, now=20.0)]
    assert {cause: causes.count(cause) for cause in causes} == {
        "waiting.held": 15, "settled.ack": 2, "dead_lettered.reject": 3,
    }  # fmt: skip
