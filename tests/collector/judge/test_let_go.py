"""What a receiver let go of without claiming that it processed it is not settled by going past it."""

import pytest
from evidence_support import finding
from ledger_support import S, committed, in_kafka, processed, sent, subscribed, take

from hopwatch.conventions import ANYBODY as TOLD_ANYBODY
from hopwatch.conventions import NOTHING_DUE as TOLD_NOTHING_DUE
from hopwatch.conventions import Ending
from hopwatch_collector.engine import Store
from hopwatch_collector.judge.frames import ANYBODY
from hopwatch_collector.judge.messages import ENDINGS, NOTHING_DUE


@pytest.fixture
def send(store: Store) -> S:
    """A record at offset 7 that the group billing is owed; no broker is watched."""
    one = sent("orders", "kafka", **in_kafka(7))
    take(store, subscribed("orders", "billing", system="kafka", start=-60.0), one)
    return one


def let_go(send: S, ending: str, **more: object) -> S:
    """An attempt that ended with such a word."""
    one = processed(send, settle="none", **more)  # type: ignore[arg-type]
    return one.but(**{"hopwatch.reason": ending})


def test_the_words_are_those_that_receivers_use() -> None:
    """Both sides spell them alike; what is told late is none of them, and outdoes them in the order of text."""
    assert (*ENDINGS, Ending.LATE.value) == tuple(sorted(ending.value for ending in Ending))
    assert NOTHING_DUE == TOLD_NOTHING_DUE
    assert ANYBODY == TOLD_ANYBODY


@pytest.mark.parametrize(
    ("ending", "open_as", "passed_as"),
    [
        (Ending.UNREAD, "waiting.unread", "skipped.unread"),
        (Ending.HELD, "in_flight.handed_on", "unknown.handed_on"),
        (Ending.LEFT, "in_flight.loop_left", "unknown.loop_left"),
    ],
)
def test_a_commit_past_it_does_not_settle_it(
    store: Store, send: S, ending: Ending, open_as: str, passed_as: str
) -> None:
    """Before the commit it is open; where none is due, that is the last word."""
    take(store, let_go(send, ending.value))
    assert finding(store, 5.0) == open_as
    take(store, committed("orders", 8, start=6.0))
    assert finding(store, 10.0) == passed_as


@pytest.mark.parametrize(
    ("ending", "cause"),
    [
        (Ending.UNREAD, "skipped.unread"),
        (Ending.HELD, "unknown.handed_on"),
        (Ending.LEFT, "unknown.loop_left"),
    ],
)
def test_where_nothing_more_is_due_it_is_the_last_word(
    store: Store, send: S, ending: Ending, cause: str
) -> None:
    """A reader without a group commits nothing."""
    take(store, let_go(send, f"{ending.value}{NOTHING_DUE}"))
    assert finding(store, 5.0) == cause


def told_late(attempt: S, settle: str = "none", error: str = "") -> S:
    """What the receiver tells of an attempt that has ended, beneath it."""
    late = processed(attempt, settle=settle, start=attempt.end + 1.0, error=error)
    return late.but(
        **{
            **attempt.attributes,
            "hopwatch.reason": Ending.LATE.value,
            "messaging.operation.type": "settle",
            "hopwatch.settle.outcome": settle,
        }
    )


@pytest.mark.parametrize(
    ("error", "cause"), [("", "settled.committed"), ("ValueError: no", "failed.committed")]
)
def test_a_late_word_decides(store: Store, send: S, error: str, cause: str) -> None:
    """Whoever it was handed on to said how its work ended."""
    attempt = let_go(send, Ending.HELD.value)
    take(store, attempt, told_late(attempt, error=error), committed("orders", 8, start=6.0))
    assert finding(store, 10.0) == cause


def test_another_attempt_decides(store: Store, send: S) -> None:
    """Read again and processed, it is settled like any other."""
    take(
        store,
        let_go(send, Ending.UNREAD.value),
        processed(send, settle="none", attempt=2, start=4.0),
        committed("orders", 8, start=6.0),
    )
    assert finding(store, 10.0) == "settled.committed"
