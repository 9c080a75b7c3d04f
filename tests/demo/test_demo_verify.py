"""The comparison of ledger and ground truth: every kind of difference is seen."""

import pytest

from hopwatch_demo.cli import DIFFERS, exit_code
from hopwatch_demo.expect import Course, Expected
from hopwatch_demo.ledger import Row
from hopwatch_demo.report import Result
from hopwatch_demo.verify import Agreement, compare

FLOW = "f" * 32


def row(event: str, receiver: str, verdict: str = "settled", attempts: int = 1, flow: str = FLOW) -> Row:
    """A delivery as the collector tells it."""
    return Row(event, receiver, verdict, attempts, flow, f"id of {event}", "somewhere", "because")


def truth(*keys: tuple[str, str]) -> dict[tuple[str, str], Expected]:
    """Deliveries settled at the first attempt."""
    return {key: Expected(*key, "settled", 1, "bill", "nats") for key in keys}


CALL, BILL = ("o00001.call.gateway", "gateway"), ("o00001.nats.bill", "C/billing")


def test_two_sides_that_say_the_same_agree() -> None:
    """Same verdict, same attempts, same flow: complete agreement."""
    found = compare(truth(CALL, BILL), [row(*CALL), row(*BILL)])
    assert (found.agreed, found.total, found.complete) == (2, 2, True)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([row(*BILL, verdict="overdue")], "truth settled, attempts 1; ledger overdue, attempts 1"),
        ([row(*BILL, attempts=2)], "truth settled, attempts 1; ledger settled, attempts 2"),
        ([row(*BILL, flow="e" * 32)], f"truth flow {FLOW}; ledger flow {'e' * 32}"),
        ([], "truth settled, attempts 1; ledger nothing"),
        ([row(*BILL), row(*BILL)], "truth settled, attempts 1; ledger 2 messages"),
    ],
    ids=["verdict", "attempts", "flow", "missing", "doubled"],
)
def test_a_wrong_ledger_is_detected(wrong: list[Row], said: str) -> None:
    """Each way in which a ledger can be wrong about a delivery is a difference, and ends the demo with an error."""
    found = compare(truth(CALL, BILL), [row(*CALL), *wrong])
    assert (found.agreed, found.total, found.complete) == (1, 2, False)
    assert said in str(found.differences[0])
    assert exit_code(Result("", wrong, found, [])) == DIFFERS


@pytest.mark.parametrize(
    "extra", [row("o00009.nats.bill", "C/billing"), row("", "who?"), row(BILL[0], "C/other")]
)
def test_what_only_the_ledger_knows_is_a_difference(extra: Row) -> None:
    """An invented message, one without a key, and an invented receiver are all told."""
    found = compare(truth(CALL, BILL), [row(*CALL), row(*BILL), extra])
    assert (found.agreed, found.total, found.complete) == (2, 3, False)
    assert "truth nothing" in str(found.differences[0])


def test_an_empty_ledger_and_no_truth_are_no_agreement() -> None:
    """A run in which nothing happened proves nothing."""
    assert not compare({}, []).complete


def test_the_closing_line_counts_both_sides() -> None:
    """The line names flows, deliveries, undelivered and agreement, and agreement decides the exit code."""
    rows = [row(*CALL), row(*BILL, verdict="stuck")]
    result = Result("", rows, compare(truth(CALL, BILL), rows), [])
    assert result.line() == "demo: flows=1 deliveries=2 undelivered=1 agreement=1/2"
    assert exit_code(result) == DIFFERS


def test_complete_agreement_ends_well() -> None:
    """No difference and no stray fault: exit code 0."""
    assert (
        exit_code(Result("", [row(*CALL)], Agreement(1, []), [Course("poison", "nats", "x", {"x": 1}, [])]))
        == 0
    )


def test_a_fault_that_went_astray_fails_the_demo() -> None:
    """If the shop did not suffer what it should have, agreement alone is not success."""
    astray = Course("crash", "nats", "settled", {"settled": 1}, ["o00007 was received once"])
    assert exit_code(Result("", [row(*CALL)], Agreement(1, []), [astray])) == DIFFERS
