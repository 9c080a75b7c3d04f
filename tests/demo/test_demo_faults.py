"""The catalogue of faults, and how they are chosen."""

import pytest
from typer.testing import CliRunner

from hopwatch_demo.catalogue import ALL
from hopwatch_demo.cli import app
from hopwatch_demo.faults import CRASH, FAULTS, HANG, SLOW, choose


def test_all_faults_are_committed_unless_told_otherwise() -> None:
    """No choice means all of them."""
    assert choose([], []) == set(FAULTS)


def test_faults_can_be_picked_and_left_out() -> None:
    """`only` picks, `without` leaves out, and leaving out wins."""
    assert choose(["crash", "hang"], ["hang"]) == {"crash"}
    assert choose([], ["slow"]) == set(FAULTS) - {"slow"}


def test_an_unknown_fault_is_refused_with_those_there_are() -> None:
    """A typing mistake is answered with the names that exist."""
    with pytest.raises(ValueError, match=r"no such fault: crahs; there are: .*crash"):
        choose(["crahs"], [])


def test_a_fault_strikes_its_orders_and_no_others() -> None:
    """Which orders are struck follows from their numbers, so that runs are alike."""
    assert [n for n in range(1, 100) if CRASH.strikes(n)] == [7, 47, 87]
    assert [n for n in range(1, 100) if HANG.strikes(n)] == [6]
    assert not any(SLOW.strikes(n) for n in range(1, 100))


def test_a_fault_strikes_only_kinds_and_brokers_that_carry_them() -> None:
    """Every fault names a verdict for brokers that carry its kind of message, and for no other."""
    for fault in FAULTS.values():
        assert fault.verdicts.keys() <= fault.kind.brokers <= ALL, fault.name


def test_the_faults_can_be_listed() -> None:
    """`--list-faults` names each with its verdicts and starts nothing."""
    answer = CliRunner().invoke(app, ["--list-faults"])
    assert answer.exit_code == 0
    for fault in FAULTS.values():
        assert fault.name in answer.output


@pytest.mark.parametrize(
    "wrong",
    [["--fault", "crahs"], ["--brokers", "nats,carrier-pigeon"], ["--seconds", "0"]],
    ids=lambda a: a[0],
)
def test_wrong_options_are_usage_errors(wrong: list[str]) -> None:
    """An unknown fault or broker, or no time at all, is refused before anything starts."""
    assert CliRunner().invoke(app, wrong).exit_code == 2
