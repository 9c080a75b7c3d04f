"""Why a delivery stands as it does, and what is undelivered by cause."""

from collections.abc import Collection, Mapping
from datetime import timedelta

import pytest
from ledger_support import S, asked, at, in_kafka, processed, sent, subscribed, take

from hopwatch_collector.api.models import UNDELIVERED, Verdict
from hopwatch_collector.engine import Store
from hopwatch_collector.judge.rules import RULES
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.query.advice import advice_on
from hopwatch_collector.query.window import Window
from hopwatch_collector.witness.model import Claim, Look, Place, Position
from hopwatch_collector.witness.watch import Watch

WINDOW = Window(at(-60), at(7200))


def test_there_is_a_word_on_every_cause_of_non_delivery() -> None:
    """Whatever is undelivered comes with what to do about it, and whatever is unknown with what would settle it."""
    undelivered = {rule.cause for rule in RULES if Verdict(rule.verdict) in UNDELIVERED}
    assert all(advice_on(cause).endswith(".") for cause in undelivered)
    assert {rule.cause for rule in RULES if rule.needs} == {
        rule.cause for rule in RULES if rule.verdict == "unknown"
    }


class Scripted:
    """A witness that saw what the test says."""

    system = "kafka"
    broker = "kafka:9092"

    def __init__(self, look: Look) -> None:
        self._look = look

    async def look(self) -> Look:
        return self._look

    async def hidden(self, missing: Collection[Place]) -> Mapping[Place, str]:
        return {}

    async def close(self) -> None: ...


def behind() -> Look:
    """The group billing has read up to offset 5 of a log that reaches to 9."""
    position = Position(first=0, end=9, next=5, done=5, waiting=4, consumers=0, state="empty")
    return Look(
        frozenset({Claim("orders", "billing", since=at(-10))}),
        {Place("billing", "0", "orders"): position},
        requests=3,
    )


@pytest.fixture
async def overdue(store: Store) -> S:
    """A message that Kafka holds for a group that is not there."""
    send = sent("orders", "kafka", **in_kafka(7))
    take(store, send)
    await Watch(Scripted(behind()), store, Metrics()).once()
    return send


def test_the_evidence_of_every_witness_is_told(store: Store, overdue: S) -> None:
    """The sender's word, the title, the lack of attempts and the broker's position, with what to do."""
    why = asked(store).why(overdue.message)
    assert why is not None
    (one,) = why.explanations
    assert (one.receiver, one.verdict, one.cause) == ("billing", Verdict.OVERDUE, "overdue.held")
    said = [(evidence.witness, evidence.says) for evidence in one.evidence]
    assert ("producer", "shop sent it to orders; the send was confirmed, at 0:7") in said
    assert ("broker", "billing is owed orders, says the broker") in said
    assert ("consumer", "no attempt was seen") in said
    position = next(
        says for witness, says in said if witness == "broker" and says.startswith("billing on orders")
    )
    assert "next to hand out is 5; 4 wait; nobody is reading" in position
    assert any("kafka at kafka:9092 was last asked at" in says for _, says in said)
    assert one.advice.startswith("Start the receiver")
    assert one.deadline == one.since + timedelta(seconds=30)


def test_evidence_comes_in_the_order_of_time(store: Store) -> None:
    """What has a time is told in its order, the rest after it."""
    send = sent("orders", "nats")
    take(
        store,
        subscribed("orders", "billing", start=-5.0),
        send,
        processed(send, error="ValueError: no such order", settle="none"),
    )
    why = asked(store).why(send.message)
    assert why is not None
    times = [evidence.at for evidence in why.explanations[0].evidence]
    dated = [time for time in times if time is not None]
    assert dated == sorted(dated)
    assert times[: len(dated)] == dated
    assert any(
        "it failed: ValueError: no such order" in evidence.says for evidence in why.explanations[0].evidence
    )


def test_a_broker_that_is_not_watched_is_named(store: Store) -> None:
    """What would be needed to know more is said, down to the option."""
    send = sent("orders", "nats")
    take(store, send)
    why = asked(store).why(send.message)
    assert why is not None
    assert "nats is not watched: start the collector with --watch-nats" in [
        e.says for e in why.explanations[0].evidence
    ]


def test_nothing_is_said_of_a_message_nobody_knows(store: Store) -> None:
    """An unknown id has no explanation."""
    assert asked(store).why("01890a5d-ac96-774b-bcce-b302099a8057") is None


def test_undelivered_messages_are_grouped_by_cause(store: Store) -> None:
    """Same cause, destination and receiver: one line with how many, since when, the newest of them and what to do."""
    sends = [sent("orders", start=float(second), outcome="returned") for second in range(7)]
    other = sent("payments", start=3.0, outcome="refused")
    settled = sent("orders", start=1.0)
    take(store, *sends, other, settled, processed(settled))
    found = asked(store).undelivered(WINDOW)
    assert [(cause.cause, cause.destination, cause.deliveries) for cause in found.causes] == [
        ("returned", "orders", 7), ("refused", "payments", 1),
    ]  # fmt: skip
    first = found.causes[0]
    assert (first.first_at, first.last_at) == (at(0), at(6))
    assert first.sample_message_ids == [send.message for send in reversed(sends[2:])]
    assert first.advice == advice_on("returned")
    assert not found.truncated


def test_causes_are_cut_off_at_the_limit_and_say_so(store: Store) -> None:
    """Of more causes than asked for the most frequent are shown."""
    take(store, sent("a", outcome="returned"), sent("a", outcome="returned"), sent("b", outcome="returned"))
    found = asked(store).undelivered(WINDOW, limit=1)
    assert [cause.destination for cause in found.causes] == ["a"]
    assert found.truncated
    assert [cause.destination for cause in asked(store).undelivered(WINDOW, destination="b").causes] == ["b"]


def test_causes_of_single_verdicts(store: Store) -> None:
    """Asked for some verdicts, causes of others are left out; a verdict that is no failure has no cause."""
    take(store, sent("a", outcome="returned"), sent("b", outcome="refused"))
    wanted = frozenset({Verdict.REFUSED, Verdict.SETTLED})
    found = asked(store).undelivered(WINDOW, verdicts=wanted)
    assert [cause.destination for cause in found.causes] == ["b"]


def test_why_names_the_rule_and_what_would_decide_otherwise(store: Store) -> None:
    """With the signals it asks for, and the one that keeps an earlier rule from deciding."""
    send = sent()
    take(store, subscribed(), send, processed(send, settle="nack", error="boom", start=1.0))
    told = asked(store).why(send.message)
    [explained] = told.explanations
    decision = explained.decision
    assert (explained.cause, decision.cause) == ("overdue.nacked", "overdue.nacked")
    assert decision.signals == {"received": True, "nacked": True, "waits_too_long": True}
    assert (decision.otherwise, decision.if_signal, decision.by_silence) == (
        "settled.processed",
        "acknowledged",
        True,
    )


def advice_of(store: Store, send: S) -> str:
    """What to do about the first delivery of a message."""
    why = asked(store).why(send.message)
    assert why is not None
    return str(why.explanations[0].advice)


def test_who_was_bound_before_is_named(store: Store) -> None:
    """Of a message that was routed nowhere it is told which queue its key led to, and until when."""
    send = sent("orders:new", "rabbitmq", outcome="returned", start=60.0)
    take(
        store,
        subscribed("orders:new", "mail", "rabbitmq", start=-100.0),
        subscribed("orders:new", "mail", "rabbitmq", report="unsubscribe", start=-20.0),
        subscribed("orders:new", "gone-again", "rabbitmq", instance="1", report="unsubscribe", start=-90.0),
        subscribed("orders:new", "gone-again", "rabbitmq", instance="2", start=-10.0),
        send,
    )
    assert f"Until {at(-20):%H:%M:%S} queue `mail` was bound to this key." in advice_of(store, send)
    assert "gone-again" not in advice_of(store, send)


@pytest.mark.parametrize("durable", [True, False])
def test_who_was_subscribed_before_is_named(store: Store, durable: bool) -> None:
    """A subscriber of any kind that has left is named with the time when it did."""
    send = sent("orders", outcome="returned", start=60.0)
    gone = subscribed("orders", "audit", durable=durable, report="unsubscribe", start=30.0)
    take(store, subscribed("orders", "audit", durable=durable, start=-10.0), gone, send)
    assert f"Until {at(30):%H:%M:%S} `audit` was subscribed to it." in advice_of(store, send)


def test_where_else_its_sender_sent_to_is_told(store: Store) -> None:
    """A message to a topic that nobody reads comes with the one that somebody read from the same sender."""
    send, before = sent("order", outcome="returned", start=60.0), sent("orders", start=0.0)
    take(store, before, processed(before, start=2.0), send)
    told = f"`shop` also sent to `orders`, where `billing` last received at {at(2):%H:%M:%S}."
    assert told in advice_of(store, send)
    assert "also sent" not in advice_of(store, before)


def test_when_a_silent_receiver_was_last_seen_is_told(store: Store) -> None:
    """A receiver that does not take what it is owed is named with the time when its service last said anything."""
    send = sent("orders", "kafka", **in_kafka(7))
    take(
        store,
        subscribed("orders", "billing", "kafka", start=-1.0),
        subscribed("orders", "billing", "kafka", start=14.0),
        send,
    )
    assert f"`billing` was last seen at {at(14):%H:%M:%S}." in advice_of(store, send)
