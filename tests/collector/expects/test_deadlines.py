"""Deadlines per destination and receiver: the first rule that matches counts, and every row says when its time is up."""

import pytest
from ledger_support import asked, at, judged, opened, processed, sent, subscribed, take

from hopwatch_collector.api.models import Verdict
from hopwatch_collector.engine import Store
from hopwatch_collector.expects import Declared, declare
from hopwatch_collector.expects.model import Rule
from hopwatch_collector.expects.patterns import destination, glob
from hopwatch_collector.query.window import Window


def rule(after: float, *, system: str = "", place: str = "", receiver: str = "") -> Rule:
    """A deadline as the configuration has it."""
    return Rule(
        system, destination(system, place) if place else None, glob(receiver) if receiver else "", after
    )


def within(store: Store, *rules: Rule, seconds: float = -60.0) -> None:
    """A collector started with these rules."""
    declare(store, Declared(rules=rules), at(seconds))


@pytest.fixture
def waiting(store: Store) -> Store:
    """Two receivers wait for a message that was sent at second 0."""
    take(store, subscribed("orders.*", "billing"), subscribed("orders.*", "reports"), sent("orders.new"))
    return store


def due(store: Store, now: float = 10.0) -> dict[str, tuple[str, float]]:
    """Verdict per receiver, and how many seconds into the story its time is up."""
    rows = judged(store, now=now)
    return {row["receiver"]: (row["verdict"], (row["due_at"] - at(0)).total_seconds()) for row in rows}


def test_without_rules_the_default_holds(waiting: Store) -> None:
    """Thirty seconds, and the row says so."""
    assert due(waiting) == {"billing": ("waiting", 30.0), "reports": ("waiting", 30.0)}
    assert due(waiting, 31.0) == {"billing": ("overdue", 30.0), "reports": ("overdue", 30.0)}


@pytest.mark.parametrize(
    ("rules", "billing", "reports"),
    [
        ([rule(300, receiver="reports")], 30.0, 300.0),
        ([rule(300, receiver="rep*"), rule(5, receiver="reports")], 30.0, 300.0),
        ([rule(5)], 5.0, 5.0),
        ([rule(60, system="nats", place="orders.>")], 60.0, 60.0),
        ([rule(60, system="nats", place="orders.>", receiver="billing"), rule(90, place="orders.new")], 60.0, 90.0),
        ([rule(60, system="kafka")], 30.0, 30.0),
        ([rule(60, system="nats", place="*.old")], 30.0, 30.0),
    ],
)  # fmt: skip
def test_the_first_rule_that_matches_counts(
    waiting: Store, rules: list[Rule], billing: float, reports: float
) -> None:
    """By system, destination and receiver; what is left out matches any."""
    within(waiting, *rules)
    assert due(waiting) == {
        "billing": ("overdue" if billing < 10 else "waiting", billing),
        "reports": ("overdue" if reports < 10 else "waiting", reports),
    }


def test_rules_that_are_gone_no_longer_count(waiting: Store) -> None:
    """The rules of the last start hold, and a start without any leaves the default."""
    within(waiting, rule(300), rule(5, receiver="billing"))
    within(waiting, rule(60), seconds=-30.0)
    assert due(waiting)["billing"] == ("waiting", 60.0)
    within(waiting, rule(60), seconds=-20.0)
    assert len(waiting.standing_deadlines()) == 1
    within(waiting, seconds=-10.0)
    assert waiting.standing_deadlines() == []
    assert due(waiting)["billing"] == ("waiting", 30.0)


def test_what_is_in_hand_has_its_time_from_when_it_began(store: Store) -> None:
    """A handler that may take long is not stuck before its own deadline."""
    send = sent("orders")
    take(store, send, opened(processed(send, start=19.0), after=1.0))
    assert due(store, 60.0) == {"billing": ("stuck", 50.0)}
    within(store, rule(120, receiver="billing"))
    assert due(store, 60.0) == {"billing": ("in_flight", 140.0)}


def test_what_is_settled_is_due_no_more(store: Store) -> None:
    """The API tells a deadline of what is open, and none of what is not."""
    send = sent("orders")
    take(store, send, processed(send), subscribed("orders", "mail"))
    window = Window(at(-60), at(60))
    told = {one.receiver: one for one in asked(store, 7200.0).deliveries(window).deliveries}
    assert (told["billing"].verdict, told["billing"].deadline) == (Verdict.SETTLED, None)
    assert (told["mail"].verdict, told["mail"].deadline) == (Verdict.WAITING, at(7200))
    why = asked(store, 7200.0).why(send.message)
    assert why is not None
    assert {one.receiver: one.deadline for one in why.explanations} == {"billing": None, "mail": at(7200)}
