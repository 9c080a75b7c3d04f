"""What verdicts make of declared receivers: owed while declared, and a finding of its own where nobody is there."""

from typing import Any
from uuid import UUID

import pytest
from ledger_support import asked, at, committed, in_kafka, judged, processed, sent, subscribed, take, verdicts

from hopwatch_collector.api.models import Verdict
from hopwatch_collector.engine import Store
from hopwatch_collector.expects import Declared, declare
from hopwatch_collector.expects.model import Expectation
from hopwatch_collector.expects.patterns import destination
from hopwatch_collector.query.window import Window
from hopwatch_collector.witness.nats import _NO_MONITORING
from hopwatch_collector.witness.watch import POLL_COLUMNS, STATE_COLUMNS, write_claims

WINDOW = Window(at(-3000), at(3000))


def expects(
    system: str, pattern: str, receiver: str, source: str = "expects in hopwatch.yaml"
) -> Expectation:
    """One declared receiver."""
    return Expectation(system, destination(system, pattern), receiver, source)


def declaring(store: Store, *declared: Expectation, seconds: float = -60.0) -> None:
    """A collector started with these declarations, so many seconds into the story."""
    declare(store, Declared(declared), at(seconds))


def looked(store: Store, system: str, seconds: float, trouble: str = "") -> None:
    """A witness looked so many seconds into the story."""
    when = at(seconds)
    store.write("watches", POLL_COLUMNS, [[when.date(), system, "broker:1", when, 1, trouble, 1, 1]])


def claimed(store: Store, system: str, pattern: str, receiver: str, seconds: float) -> None:
    """A witness saw that the broker knows a receiver, from then on."""
    when = at(seconds)
    row = [
        when.date(),
        system,
        pattern,
        receiver,
        1,
        1,
        when.replace(second=0),
        "",
        when,
        when,
        at(-10_000),
        "",
    ]
    write_claims(store, [row])


def stood(store: Store, system: str, receiver: str, seconds: float, **told: Any) -> None:
    """A witness wrote down how a receiver stood."""
    when = at(seconds)
    row: dict[str, Any] = dict.fromkeys(STATE_COLUMNS, -1)
    row |= {
        "day": when.date(), "system": system, "destination": "", "receiver": receiver, "partition": "", "at": when,
        "oldest_at": at(-3000).fromtimestamp(0, at(0).tzinfo), "dead_letters": 0, "uncounted": 0, "state": "",
    }  # fmt: skip
    row |= told
    store.write("receiver_states", STATE_COLUMNS, [[row[name] for name in STATE_COLUMNS]])


def only(store: Store, now: float = 10.0) -> tuple[str, str]:
    """Receiver and cause of the one delivery there is."""
    (row,) = judged(store, now=now)
    return row["receiver"], row["cause"]


def test_a_declared_receiver_is_owed_without_any_other_word(store: Store) -> None:
    """No service and no broker knows it: it waits, is overdue after the deadline, and the reason says that it is declared."""
    declaring(store, expects("nats", "orders.*", "billing"))
    take(store, sent("orders.new"))
    assert only(store) == ("billing", "waiting.declared")
    (row,) = judged(store, now=40.0)
    assert (row["verdict"], row["receiver"]) == ("overdue", "billing")
    assert row["why"].startswith("declared to be owed it")
    assert row["witnesses"] == ["producer"]


def test_a_declared_receiver_that_the_broker_does_not_know_was_not_there(store: Store) -> None:
    """The finding names it, once the broker was asked after the message was sent, with the broker as witness."""
    declaring(store, expects("kafka", "orders", "billing"))
    take(store, sent("orders", "kafka", **in_kafka(7)))
    looked(store, "kafka", -5.0)
    assert only(store) == ("billing", "waiting.declared")
    looked(store, "kafka", 5.0)
    (row,) = judged(store)
    assert (row["verdict"], row["receiver"], row["cause"]) == (
        "no_receiver",
        "billing",
        "no_receiver.declared",
    )
    assert row["why"] == "declared to be owed it, but the broker knew of no such receiver when it was sent"
    assert row["witnesses"] == ["producer", "broker"]


def test_others_who_got_it_change_nothing_for_who_was_not_there(store: Store) -> None:
    """Each receiver has its own verdict, and who is there and declared is judged as ever."""
    declaring(store, expects("kafka", "orders", "billing"), expects("kafka", "orders", "mail"))
    send = sent("orders", "kafka", **in_kafka(7))
    take(store, subscribed("orders", "mail", "kafka"), send, processed(send, "mail", service="mail"))
    looked(store, "kafka", 5.0)
    assert verdicts(store) == {"mail": "settled", "billing": "no_receiver"}
    assert {row["receiver"]: row["declared"] for row in judged(store)} == {
        "mail": "confirmed",
        "billing": "alone",
    }


@pytest.mark.parametrize(("sent_at", "owed"), [(-61.0, False), (-59.0, True), (29.0, True), (31.0, False)])
def test_owed_from_when_it_took_effect_until_it_was_removed(store: Store, sent_at: float, owed: bool) -> None:
    """A start without the declaration ends it; neither earlier nor later messages are owed."""
    declaring(store, expects("nats", "orders", "billing"), seconds=-60.0)
    declaring(store, seconds=30.0)
    take(store, sent("orders", start=sent_at))
    assert only(store, sent_at + 10) == (("billing", "waiting.declared") if owed else ("", "no_receiver"))


def test_a_restart_with_the_same_file_changes_nothing(store: Store) -> None:
    """No second title, and the beginning stays."""
    one = expects("nats", "orders", "billing")
    for seconds in (-60.0, 0.0, 60.0):
        declaring(store, one, seconds=seconds)
    (title,) = store.standing_declarations()
    assert (title["receiver"], title["from_at"]) == ("billing", at(-60))
    take(store, sent("orders", start=-30.0))
    assert only(store, 0.0) == ("billing", "waiting.declared")


def test_what_was_removed_may_come_back(store: Store) -> None:
    """What was sent in between is nobody's."""
    one = expects("nats", "orders", "billing")
    for seconds, declared in ((-60.0, [one]), (0.0, []), (60.0, [one])):
        declaring(store, *declared, seconds=seconds)
    take(store, *(sent("orders", start=start) for start in (-30.0, 30.0, 90.0)))
    rows = sorted((row["first_at"], row["receiver"]) for row in judged(store, now=95.0))
    assert rows == [(at(-30), "billing"), (at(30), ""), (at(90), "billing")]


PATTERNS = [
    ("nats", "orders.>", "orders.new.eu", True), ("nats", "orders.*", "orders.new.eu", False), ("kafka", "orders-*", "orders-eu.v1", True),
    ("kafka", "orders-*", "returns", False), ("rabbitmq", "events:order.#", "events:order", True), ("rabbitmq", "events:#", "events:", True),
    ("rabbitmq", "events:order.*", "other:order.new", False), ("rabbitmq", "billing", "billing", True), ("nats", "a.(b|c)$", "a.b", False),
]  # fmt: skip


def test_patterns_mean_in_the_engine_what_they_mean(store: Store) -> None:
    """The engine matches what was worked out when the file was read."""
    declaring(store, *(expects(one[0], one[1], f"receiver {number}") for number, one in enumerate(PATTERNS)))
    sends = [sent(place, system) for system, _, place, _ in PATTERNS]
    take(store, *sends)
    owed = {(str(UUID(bytes=row["message"])), row["receiver"]) for row in judged(store)}
    for number, (send, pattern) in enumerate(zip(sends, PATTERNS, strict=True)):
        assert ((send.message, f"receiver {number}") in owed) is pattern[3], pattern


def test_what_nobody_took_was_owed_to_nobody(store: Store) -> None:
    """A message that came back to its sender is one finding, not one per declared receiver."""
    declaring(store, expects("nats", "orders", "billing"), expects("nats", "orders", "mail"))
    take(store, sent("orders", outcome="returned"))
    assert verdicts(store) == {"": "returned"}


def test_a_receiver_seen_soon_afterwards_leaves_a_doubt(store: Store) -> None:
    """The broker is not asked all the time: what is first seen a little later may have been there in time."""
    declaring(store, expects("rabbitmq", "events:order", "billing"))
    take(store, sent("events:order", "rabbitmq"))
    claimed(store, "rabbitmq", "events:order", "billing", 3.0)
    looked(store, "rabbitmq", 3.0)
    assert only(store) == ("billing", "waiting.declared")
    assert only(store, 40.0) == ("billing", "unknown.declared")
    row = asked(store).deliveries(WINDOW).deliveries[0]
    assert row.verdict is Verdict.UNKNOWN
    assert row.missing.startswith("instrumenting the receiver")


def test_a_receiver_that_came_long_after_was_not_there(store: Store) -> None:
    """A queue bound a minute later never got it, whatever its counters say."""
    declaring(store, expects("rabbitmq", "events:order", "billing"))
    take(store, sent("events:order", "rabbitmq"))
    claimed(store, "rabbitmq", "events:order", "billing", 60.0)
    stood(store, "rabbitmq", "billing", 70.0, waiting=0, in_hand=0, published=9, handed=9, acked=9)
    looked(store, "rabbitmq", 90.0)
    assert only(store, 95.0) == ("billing", "no_receiver.declared")


def test_a_queue_that_is_not_bound_got_nothing(store: Store) -> None:
    """The queue is there and empty, and settled all it ever got: but nothing leads from this destination to it."""
    declaring(store, expects("rabbitmq", "events:order", "billing"))
    claimed(store, "rabbitmq", "billing", "billing", -30.0)
    take(store, sent("events:order", "rabbitmq"))
    stood(store, "rabbitmq", "billing", 3.0, waiting=0, in_hand=0, published=0, handed=0, acked=0)
    looked(store, "rabbitmq", 20.0)
    assert only(store, 25.0) == ("billing", "no_receiver.declared")


def test_an_alternate_exchange_stays_owed_what_others_let_through(store: Store) -> None:
    """A declaration is no binding: it takes nothing away from whoever gets what nobody else does."""
    declaring(store, expects("rabbitmq", "events:order", "billing"))
    claimed(store, "rabbitmq", "otherwise\x1fevents:#", "strays", -30.0)
    take(store, sent("events:order", "rabbitmq"))
    looked(store, "rabbitmq", 5.0)
    assert verdicts(store) == {"strays": "waiting", "billing": "no_receiver"}


@pytest.mark.parametrize(
    ("next_offset", "tells", "cause"),
    [(5, False, "waiting.held"), (9, False, "unknown.declared"), (9, True, "skipped")],
)
def test_a_log_tells_of_the_message_itself(store: Store, next_offset: int, tells: bool, cause: str) -> None:
    """A group that came later reads what is before it, and may have begun behind it: then only its own word decides."""
    declaring(store, expects("kafka", "orders", "billing"))
    if tells:
        other = sent("other", "kafka", **in_kafka(1))
        there = [subscribed("other", "billing", system="kafka", start=start) for start in (60.0, 90.0, 105.0)]
        take(store, other, processed(other), committed("other", 2), *there)
    take(store, sent("orders", "kafka", start=10.0, **in_kafka(7)))
    place = {"destination": "orders", "partition": "0", "first": 0, "end": 9, "done": next_offset}
    stood(store, "kafka", "billing", 100.0, next=next_offset, waiting=9 - next_offset, **place)
    looked(store, "kafka", 105.0)
    rows = [row for row in judged(store, now=106.0, deadline=120.0) if row["destination"] == "orders"]
    assert [(row["receiver"], row["cause"]) for row in rows] == [("billing", cause)]


def test_a_client_that_only_the_server_knows_may_be_the_declared_subscriber(store: Store) -> None:
    """One subscription is one delivery, under the declared name; whose it is nobody tells."""
    declaring(store, expects("nats", "prices.*", "pricing:prices.*"))
    claimed(store, "nats", "prices.*", "client legacy:prices.*", -30.0)
    take(store, sent("prices.tea"))
    looked(store, "nats", 39.0)
    assert only(store, 40.0) == ("pricing:prices.*", "unknown.declared")


@pytest.mark.parametrize(
    ("receiver", "cause"),
    [("billing:orders", "unknown.missing_permissions"), ("ORDERS/billing", "no_receiver.declared")],
)
def test_only_what_a_witness_does_not_see_is_in_doubt(store: Store, receiver: str, cause: str) -> None:
    """Without NATS's monitoring endpoint plain subscribers are not seen; consumers of streams are."""
    declaring(store, expects("nats", "orders", receiver))
    take(store, sent("orders"))
    looked(store, "nats", 35.0, trouble=_NO_MONITORING)
    assert only(store, 40.0) == (receiver, cause)


def test_while_the_witness_is_away_nobody_is_said_to_be_missing(store: Store) -> None:
    """Whether the receiver was there only the broker could tell."""
    declaring(store, expects("kafka", "orders", "billing"))
    take(store, sent("orders", "kafka", **in_kafka(7)))
    looked(store, "kafka", -60.0)
    assert only(store) == ("billing", "waiting.declared")
    assert only(store, 40.0) == ("billing", "unknown.broker_unreachable")


def test_why_says_where_a_title_comes_from(store: Store) -> None:
    """The service's own report, the broker and the declaration are told apart."""
    declaring(store, expects("nats", "orders", "billing", "operation onOrder in shop.yaml"))
    claimed(store, "nats", "orders", "billing", -30.0)
    send = sent("orders")
    take(store, subscribed("orders", "billing"), send, processed(send))
    found = asked(store).why(send.message)
    assert found is not None
    said = {(evidence.witness, evidence.says) for evidence in found.explanations[0].evidence}
    assert {
        ("consumer", "billing is owed orders, says billing"),
        ("broker", "billing is owed orders, says the broker"),
        ("declaration", "billing is owed orders, as declared: operation onOrder in shop.yaml"),
    } <= said
    assert asked(store).deliveries(WINDOW).deliveries[0].declared
