"""One receiver for what a queue, group or consumer gets, whoever instruments whoever reads from it."""

from collections.abc import Mapping
from typing import Any

import pytest
from evidence_support import claimed, looked, stood
from ledger_support import (
    CONSUMER,
    ERROR,
    PRODUCER,
    REMOTE,
    S,
    flat,
    in_kafka,
    judged,
    processed,
    sent,
    subscribed,
    take,
)

from hopwatch_collector.engine import Store

COLUMNS = ("receiver", "consumer", "verdict", "cause")


def foreign(
    send: S,
    service: str,
    *,
    scope: str = "io.example",
    name: str = "process",
    start: float = 1.0,
    **attributes: Any,
) -> S:
    """What another instrumentation tells of a consumer that got what `send` sent: not which queue or group it reads for."""
    kept = {
        name: value
        for name, value in send.attributes.items()
        if name
        in (
            "messaging.system",
            "messaging.destination.name",
            "messaging.destination.partition.id",
            "messaging.kafka.offset",
        )
    }
    return S(
        name=name, service=service, kind=CONSUMER, start=start, end=start + 0.1, trace=send.trace, parent=send.id, flags=REMOTE,
        scope=scope, attributes={**kept, "messaging.operation.type": "process", **attributes},
    )  # fmt: skip


def of(store: Store, *columns: str, **more: float) -> list[tuple[Any, ...]]:
    """Some columns of all deliveries."""
    return sorted(flat(judged(store, **more), *(columns or COLUMNS)))


PLACES: Mapping[str, tuple[str, str]] = {
    "kafka": ("orders", "orders"),
    "rabbitmq": ("events:order.new", "events:order.#"),
    "nats": ("orders.new", "orders.*"),
}


@pytest.mark.parametrize("system", PLACES)
@pytest.mark.parametrize("seconds", [-60.0, 5.0])
def test_the_only_one_that_is_owed_it_is_meant(store: Store, system: str, seconds: float) -> None:
    """What a service did that names no queue or group is the word of the one there is, be it seen a little later."""
    destination, pattern = PLACES[system]
    send = foreign_sent(system, destination)
    claimed(store, system, pattern, "mail", seconds)
    take(store, send, foreign(send, "mailer"))
    assert of(store) == [("mail", "mailer", "settled", "settled.processed")]


def foreign_sent(system: str, destination: str, **more: Any) -> S:
    """A send by another instrumentation."""
    return S(
        name="send", service="legacy", kind=PRODUCER, scope="io.example",
        attributes={"messaging.system": system, "messaging.operation.type": "send", "messaging.destination.name": destination},
    ).but(**more)  # fmt: skip


@pytest.mark.parametrize("system", PLACES)
def test_members_of_one_receiver_are_its_attempts(store: Store, system: str) -> None:
    """Two services that got the same message one after the other read for the one receiver there is."""
    destination, pattern = PLACES[system]
    send = sent(destination, system)
    take(store, send)
    claimed(store, system, pattern, "mail")
    own = {"messaging.message.id": "x"}
    first = foreign(send, "mailer-1", **own).but(status=ERROR, words="no", trace=send.trace)
    take(
        store,
        first.but(hopwatch__message__id=send.message),
        foreign(send, "mailer-2", start=2.0).but(hopwatch__message__id=send.message),
    )
    ((receiver, verdict, attempts),) = of(store, "receiver", "verdict", "attempts")
    assert (receiver, verdict, attempts) == ("mail", "settled", 2)


def test_nobody_known_stays_the_service(store: Store) -> None:
    """Where nobody is known to be owed a message, its receiver is called by its service."""
    send = foreign_sent("kafka", "orders")
    take(store, send, foreign(send, "mailer"))
    assert of(store) == [("mailer", "mailer", "settled", "settled.processed")]


def test_who_tells_for_itself_is_not_meant(store: Store) -> None:
    """A group whose consumers report themselves has not processed what a service of an unknown group has."""
    send = sent("orders", "kafka", **in_kafka(5))
    take(store, subscribed("orders", "audit", "kafka"), send)
    take(store, foreign(send, "mailer").but(hopwatch__message__id=send.message))
    assert of(store, "receiver", "consumer", "verdict") == [
        ("audit", "", "waiting"),
        ("mailer", "mailer", "settled"),
    ]


def test_a_queue_that_others_declare_is_meant(store: Store) -> None:
    """A queue that its sender declared is read by whoever got the message sent to it."""
    send = sent("orders", "rabbitmq")
    take(store, subscribed("orders", "orders", "rabbitmq"), send)
    take(store, foreign(send, "mailer").but(hopwatch__message__id=send.message))
    assert of(store) == [("orders", "mailer", "settled", "settled.processed")]


@pytest.mark.parametrize("system", PLACES)
def test_of_several_who_told_is_not_meant(store: Store, system: str) -> None:
    """Of two receivers the one that told of the message itself is not the one whose name is not told."""
    destination, pattern = PLACES[system]
    send = sent(destination, system)
    claimed(store, system, pattern, "mail")
    claimed(store, system, pattern, "audit")
    take(store, send, processed(send, "audit", service="auditor"))
    take(store, foreign(send, "mailer").but(hopwatch__message__id=send.message))
    assert of(store, "receiver", "consumer", "verdict") == [
        ("audit", "auditor", "settled"),
        ("mail", "mailer", "settled"),
    ]


@pytest.mark.parametrize("system", PLACES)
def test_as_many_services_as_receivers(store: Store, system: str) -> None:
    """Where as many services processed a message as are owed it, all have had it; which of them read for which is left open."""
    destination, pattern = PLACES[system]
    send = sent(destination, system)
    claimed(store, system, pattern, "mail")
    claimed(store, system, pattern, "audit")
    mailer, auditor = (
        foreign(send, service).but(hopwatch__message__id=send.message) for service in ("mailer", "auditor")
    )
    take(store, send, mailer)
    assert of(store, "receiver", "consumer", "verdict") == [("audit", "", "waiting"), ("mail", "", "waiting")]
    assert of(store, "receiver", "cause", now=60.0) == [
        ("audit", "unknown.which_receiver"),
        ("mail", "unknown.which_receiver"),
    ]
    take(store, auditor)
    assert of(store, "receiver", "consumer", "verdict") == [("audit", "", "settled"), ("mail", "", "settled")]


def test_one_that_failed_may_be_either(store: Store) -> None:
    """Of two services one failed: whose message that was is not known, and nobody's is called settled."""
    send = sent("events:order.new", "rabbitmq")
    claimed(store, "rabbitmq", "events:order.#", "mail")
    claimed(store, "rabbitmq", "events:order.#", "audit")
    take(
        store,
        send,
        foreign(send, "mailer").but(hopwatch__message__id=send.message),
        foreign(send, "auditor").but(hopwatch__message__id=send.message, status=ERROR, words="no"),
    )
    assert of(store, "receiver", "cause", now=60.0) == [
        ("audit", "unknown.which_receiver"),
        ("mail", "unknown.which_receiver"),
    ]


def test_the_broker_decides_where_the_service_does_not(store: Store) -> None:
    """A queue that was drained has settled the message, whichever of two its consumer read from."""
    claimed(store, "rabbitmq", "events:order.#", "mail")
    claimed(store, "rabbitmq", "events:order.#", "audit")
    numbers = {"waiting": 0, "in_hand": 0, "consumers": 1}
    for queue in ("mail", "audit"):
        stood(store, "rabbitmq", queue, -30.0, published=0, handed=0, acked=0, **numbers)
        stood(store, "rabbitmq", queue, 6.0, published=1, handed=1, acked=1, **numbers)
    looked(store, "rabbitmq", 20.0)
    send = sent("events:order.new", "rabbitmq")
    take(store, send, foreign(send, "mailer").but(hopwatch__message__id=send.message))
    assert of(store, "receiver", "cause", now=21.0) == [
        ("audit", "settled.uninstrumented"),
        ("mail", "settled.uninstrumented"),
    ]


def test_a_sampled_consumer_leaves_nobody_overdue(store: Store) -> None:
    """Of ten messages the consumer's sampler lets one be told: the others are not said to be lost on the way, as far as that goes."""
    sends = [sent("orders", "rabbitmq", start=number / 10) for number in range(10)]
    told = foreign(sends[0], "mailer", start=2.0)
    take(store, subscribed("orders", "orders", "rabbitmq"), *sends, told)
    store.maintain()
    assert of(store, "cause", now=60.0) == [("settled.processed",), *[("unknown.sampled",)] * 9]


@pytest.mark.parametrize("system", PLACES)
def test_nobody_known_may_have_been_sampled(store: Store, system: str) -> None:
    """Where no broker is watched, messages to where a foreign consumer reads are not said to have no receiver."""
    destination, _ = PLACES[system]
    sends = [sent(destination, system, start=number / 10) for number in range(3)]
    take(store, *sends, foreign(sends[0], "mailer", start=2.0), sent("elsewhere", system))
    store.maintain()
    assert of(store, "destination", "cause", now=60.0) == sorted(
        [
            (destination, "settled.processed"),
            *[(destination, "unknown.sampled")] * 2,
            ("elsewhere", "no_receiver"),
        ]
    )


def test_a_broker_decides_of_what_a_sampler_keeps_back(store: Store) -> None:
    """A group of which one record in ten is told committed past the others: it has read them, and skipped none."""
    claimed(store, "kafka", "orders", "ledger")
    stood(
        store,
        "kafka",
        "ledger",
        5.0,
        destination="orders",
        partition="0",
        first=0,
        next=10,
        done=10,
        end=10,
        consumers=1,
    )
    looked(store, "kafka", 20.0)
    sends = [sent("orders", "kafka", start=number / 10, **in_kafka(number)) for number in range(10)]
    told = foreign(sends[4], "ledger", start=2.0, **{"messaging.consumer.group.name": "ledger"})
    take(store, *sends, told)
    store.maintain()
    assert {row["verdict"] for row in judged(store, now=80.0)} == {"settled"}
