"""The judge of the judge: scenarios follow from their seeds, counts are what they say, and a few rounds come out right."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from truth.compare import Tally, compare
from truth.expected import Expected
from truth.lane import Size, draw
from truth.play import Plan, play

from hopwatch_collector.api.models import Delivery, Verdict
from hopwatch_demo.brokers import NAMES, Brokers

SIZE = Size(120, 60)
SEED = "12"
ROUNDS = {"kafka": [0], "rabbitmq": [9], "nats": [1]}
"""Rounds of it that are right today, whatever the timing."""


def row(event: str, verdict: Verdict, receiver: str = "billing") -> Delivery:
    """A delivery as the collector tells it."""
    now = datetime.now(UTC)
    return Delivery(
        message_id=event,
        receiver=receiver,
        verdict=verdict,
        reason="",
        witnesses=[],
        since=now,
        system="kafka",
        destination="orders",
        producer="",
        consumer="",
        sent_at=now,
        received_at=None,
        settled_at=None,
        latency_ms=None,
        attempts=0,
        flow_id="",
        trace_id="",
        keys={"event": event},
    )


def weigh(rows: list[Delivery], *, doubt: str = "", optional: bool = False) -> Tally:
    """Compare rows with one delivery that is settled."""
    settled = Expected("r.1", "billing", frozenset({"settled"}), "read", doubt, optional)
    return compare([settled], rows, "r", unsent=set())


@pytest.mark.parametrize("broker", NAMES)
def test_a_seed_draws_the_same_scenario_again(broker: str) -> None:
    """Topology, clients and faults follow from seed and number; another number is another scenario."""
    assert draw(broker, "7", 3, SIZE, "x") == draw(broker, "7", 3, SIZE, "x")
    assert len({str(draw(broker, "7", number, SIZE, "x")) for number in range(10)}) == 10


def test_what_is_said_as_it_was_is_right() -> None:
    """The verdict that follows from the records counts as right, and nothing else is found."""
    tally = weigh([row("r.1", Verdict.SETTLED)])
    assert (tally.right, tally.deliveries, tally.done) == (1, 1, True)


@pytest.mark.parametrize("verdict", [one for one in Verdict if one not in (Verdict.SETTLED, Verdict.UNKNOWN)])
def test_another_verdict_is_wrong_even_where_evidence_is_missing(verdict: Verdict) -> None:
    """What is sure and not so is wrong, whatever evidence had been taken away."""
    assert len(weigh([row("r.1", verdict)], doubt="the receiver is silent").wrong) == 1


def test_unknown_is_right_only_where_evidence_was_taken_away() -> None:
    """`unknown` counts apart where it could have been known."""
    unknown = [row("r.1", Verdict.UNKNOWN)]
    assert weigh(unknown, doubt="the receiver is silent").unknown == 1
    assert len(weigh(unknown).known) == 1


def test_what_is_missing_or_told_twice_or_of_nobody_is_wrong() -> None:
    """Each delivery is told once, unless nothing may be known of it; a receiver that is owed nothing has none."""
    assert len(weigh([]).wrong) == 1
    assert weigh([], optional=True).deliveries == 0
    assert len(weigh([row("r.1", Verdict.SETTLED)] * 2).wrong) == 1
    assert len(weigh([row("r.1", Verdict.SETTLED), row("r.1", Verdict.SETTLED, "stock")]).wrong) == 1


@pytest.mark.nats
@pytest.mark.rabbitmq
@pytest.mark.kafka
@pytest.mark.timeout(400)
def test_a_round_over_each_broker_is_told_rightly(brokers: Brokers, tmp_path: Path) -> None:
    """Nothing is wrong, and nothing is `unknown` that could be known, in a round of a fixed seed over each broker."""
    said: list[str] = []
    plan = Plan(SEED, ROUNDS, 0.0, SIZE, calm=True, clear=True)
    outcome = play(plan, brokers, tmp_path, said.append)
    told = "\n".join(said)
    assert not outcome.broken, told
    assert not outcome.tally.wrong, told
    assert not outcome.tally.known, told
    assert outcome.tally.deliveries > len(ROUNDS) * SIZE.messages, told
