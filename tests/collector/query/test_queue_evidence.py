"""What verdicts make of a queue's counters where messages expire by themselves, or come in uncounted."""

import pytest
from evidence_support import finding, looked, stood
from ledger_support import judged, processed, sent, subscribed, take

from hopwatch_collector.engine import Store


@pytest.fixture
def queue(store: Store) -> Store:
    """A queue that was empty before a message came."""
    take(store, subscribed("billing", "billing", system="rabbitmq", start=-60.0))
    stood(store, "rabbitmq", "billing", -30.0, waiting=0, in_hand=0, published=0, handed=0, acked=0)
    return store


def gone_by(queue: Store, seconds: float, **told: int) -> None:
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
    gone_by(queue, 22.0, waiting=1, published=2, handed=1, acked=1)
    assert [row["cause"] for row in judged(queue, now=32.0)] == ["waiting.held", "settled.uninstrumented"]


def test_a_queue_whose_node_is_down_has_lost_nothing(queue: Store) -> None:
    """A queue of which the broker tells no figures is not an empty one."""
    take(queue, sent("billing", "rabbitmq"))
    gone_by(queue, 3.0, waiting=-1, in_hand=-1, published=0)
    assert finding(queue, 13.0) == "waiting.no_evidence"
