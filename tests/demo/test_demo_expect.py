"""What should be said of each delivery, from the records alone."""

from collections.abc import Iterable

import pytest

from hopwatch_demo.expect import Expected, courses, expect, service_of, unfinished
from hopwatch_demo.faults import FAULTS
from hopwatch_demo.truth import Act, Entry

NOW = 1_000.0
DEADLINE_S = 5.0


def entry(at: float, act: Act, event: str = "o00001.nats.bill", **said: str | int) -> Entry:
    """One line of some service's record, about a bill on NATS unless it says otherwise."""
    fields: dict[str, str | int] = {"kind": "bill", "broker": "nats", **said}
    return Entry(at, "some", act, event, **fields)  # type: ignore[arg-type]  # the tests' own words


def sent(
    event: str = "o00001.nats.bill", at: float = 10.0, how: str = "confirmed", **said: str | int
) -> list[Entry]:
    """A sender's two lines."""
    return [entry(at, Act.SENDING, event, **said), entry(at + 0.1, Act.SENT, event, how=how, **said)]


def received(receiver: str, at: float = 11.0, how: str = "", **said: str | int) -> list[Entry]:
    """A receiver's line or two: with `how`, it settled the message."""
    lines = [entry(at, Act.RECEIVED, receiver=receiver, **said)]
    return [*lines, entry(at + 0.1, Act.SETTLED, receiver=receiver, how=how, **said)] if how else lines


def listening(receiver: str, at: float = 1.0, **said: str | int) -> list[Entry]:
    """A receiver that gets bills from `at` on."""
    return [entry(at, Act.LISTENING, "", receiver=receiver, **said)]


def judged(entries: Iterable[Entry], now: float = NOW) -> dict[tuple[str, str], tuple[str, int]]:
    """Verdict and attempts by event and receiver."""
    found = expect(entries, now, DEADLINE_S)
    return {key: (one.verdict, one.attempts) for key, one in found.items()}


@pytest.mark.parametrize(
    ("how", "verdict"),
    [
        ("ack", "settled"),
        ("commit", "settled"),
        ("auto", "settled"),
        ("reject", "dead_lettered"),
        ("term", "dead_lettered"),
    ],
)
def test_the_settlement_decides(how: str, verdict: str) -> None:
    """A settled message is settled or dead-lettered, as its receiver recorded."""
    entries = [*listening("C/billing"), *sent(), *received("C/billing", how=how)]
    assert judged(entries) == {("o00001.nats.bill", "C/billing"): (verdict, 1)}


def test_every_listener_is_owed_its_own_copy() -> None:
    """Each receiver that listened when the message was sent has a delivery."""
    entries = [*listening("C/a"), *listening("C/b"), *sent(), *received("C/a", how="ack")]
    assert judged(entries) == {
        ("o00001.nats.bill", "C/a"): ("settled", 1),
        ("o00001.nats.bill", "C/b"): ("overdue", 0),
    }


def test_who_listened_later_is_owed_nothing() -> None:
    """A receiver that began after the send is not expected to have it."""
    entries = [*sent(at=10.0), *listening("C/late", at=20.0)]
    assert judged(entries) == {("o00001.nats.bill", ""): ("no_receiver", 0)}


def test_a_returned_message_has_one_row_without_receiver() -> None:
    """What came back was owed to nobody, even if others listen to its kind."""
    assert judged([*listening("C/a"), *sent(how="returned")]) == {("o00001.nats.bill", ""): ("returned", 0)}


def test_a_second_handing_over_counts() -> None:
    """After a crash the message is received again: two attempts, settled."""
    entries = [*listening("C/a"), *sent(), *received("C/a", 11.0), *received("C/a", 17.0, how="ack")]
    assert judged(entries) == {("o00001.nats.bill", "C/a"): ("settled", 2)}


@pytest.mark.parametrize(("now", "verdict"), [(15.9, "in_flight"), (16.1, "stuck")])
def test_an_unsettled_handing_over_is_stuck_after_the_deadline(now: float, verdict: str) -> None:
    """Received and never settled is in flight, and stuck once the deadline has passed."""
    entries = [*listening("C/a"), *sent(), *received("C/a", 11.0)]
    assert judged(entries, now) == {("o00001.nats.bill", "C/a"): (verdict, 1)}


@pytest.mark.parametrize(("now", "verdict"), [(14.9, "waiting"), (15.1, "overdue")])
def test_an_untouched_message_is_overdue_after_the_deadline(now: float, verdict: str) -> None:
    """Never received is waiting, and overdue once the deadline has passed."""
    assert judged([*listening("C/a"), *sent(at=10.0)], now) == {("o00001.nats.bill", "C/a"): (verdict, 0)}


def test_core_nats_cannot_say_that_a_message_still_waits() -> None:
    """A core subscriber's missing message is unknown, not overdue: no broker holds it."""
    assert judged([*listening("audit:shop.news"), *sent()])[("o00001.nats.bill", "audit:shop.news")] == (
        "unknown",
        0,
    )


def test_a_record_passed_over_is_skipped() -> None:
    """A Kafka record that its group committed past unread is skipped; its neighbour is not."""
    kafka: dict[str, str | int] = {"kind": "reward", "broker": "kafka"}
    entries = [
        *listening("loyalty.reward", **kafka),
        *sent("o00001.kafka.reward", partition=0, offset=7, **kafka),
        *sent("o00002.kafka.reward", partition=0, offset=8, **kafka),
        entry(12.0, Act.PASSED, "", receiver="loyalty.reward", partition=0, offset=7, **kafka),
    ]
    assert judged(entries) == {
        ("o00001.kafka.reward", "loyalty.reward"): ("skipped", 0),
        ("o00002.kafka.reward", "loyalty.reward"): ("overdue", 0),
    }


def test_a_rejected_message_is_owed_to_the_dead_letter_queue() -> None:
    """RabbitMQ moves the same message on: a second delivery under the same event."""
    rabbit: dict[str, str | int] = {"broker": "rabbitmq"}
    dead: dict[str, str | int] = {"kind": "dead", "broker": "rabbitmq"}
    entries = [
        *listening("billing.bill", **rabbit),
        *listening("audit.dead", **dead),
        *sent(**rabbit),
        *received("billing.bill", 11.0, how="reject", **rabbit),
    ]
    assert judged(entries) == {
        ("o00001.nats.bill", "billing.bill"): ("dead_lettered", 1),
        ("o00001.nats.bill", "audit.dead"): ("overdue", 0),
    }
    read = [*entries, *received("audit.dead", 12.0, how="ack", **dead)]
    assert judged(read)["o00001.nats.bill", "audit.dead"] == ("settled", 1)


def test_a_call_is_owed_to_the_one_called() -> None:
    """A call has one receiver, the service it names."""
    call: dict[str, str | int] = {"kind": "call", "broker": ""}
    entries = [
        entry(10.0, Act.SENDING, receiver="orders", **call),
        *received("orders", how="answered", **call),
        entry(12.0, Act.SENT, how="answered", **call),
    ]
    assert judged(entries) == {("o00001.nats.bill", "orders"): ("settled", 1)}


@pytest.mark.parametrize(
    ("receiver", "service"),
    [
        ("EVENTS/shipping", "shipping"),
        ("shipping.placed", "shipping"),
        ("audit:shop.news.invoiced", "audit"),
        ("pricing", "pricing"),
        ("", ""),
    ],
)
def test_the_service_behind_a_receiver(receiver: str, service: str) -> None:
    """Every spelling of a receiver names its service."""
    assert service_of(receiver) == service


def bill(
    order: int, verdict: str, attempts: int = 1, kind: str = "bill", receiver: str = "billing.bill"
) -> Expected:
    """One expected delivery on RabbitMQ."""
    return Expected(f"o{order:05d}.rabbitmq.{kind}", receiver, verdict, attempts, kind, "rabbitmq")


def test_a_fault_that_took_its_course() -> None:
    """Every message a fault struck is counted by verdict."""
    expected = {
        one.key: one for one in (bill(5, "dead_lettered"), bill(6, "settled"), bill(15, "dead_lettered"))
    }
    (course,) = courses(expected, frozenset({"poison"}), ["rabbitmq"])
    assert (course.verdicts, course.strayed) == ({"dead_lettered": 2}, [])


def test_a_fault_that_went_astray_is_told() -> None:
    """A struck message with another verdict, or a crash without a second attempt, is named."""
    crash = bill(7, "settled", 1, "placed", "shipping.placed")
    expected = {one.key: one for one in (bill(5, "settled"), crash)}
    found = {
        course.fault: course.strayed
        for course in courses(expected, frozenset({"poison", "crash"}), ["rabbitmq"])
    }
    assert found == {
        "poison": ["o00005.rabbitmq.bill → billing.bill is settled after 1 attempts"],
        "crash": ["o00007.rabbitmq.placed → shipping.placed is settled after 1 attempts"],
    }


def test_only_what_a_fault_holds_up_for_ever_may_stay_unfinished() -> None:
    """The drain waits for everything but what hangs, and what the slow consumer has not reached."""
    slow, hung = (
        bill(1, "overdue", 0, "placed", "analytics.placed"),
        bill(6, "stuck", 1, "inspect", "inspection.inspect"),
    )
    late = bill(2, "waiting", 0)
    expected = {one.key: one for one in (slow, hung, late, bill(3, "settled"))}
    assert unfinished(expected, frozenset(FAULTS)) == [late]
    assert unfinished(expected, frozenset()) == [slow, hung, late]
