"""One message at several places: each receiver is judged by the copy that it is owed, read or not."""

from typing import Any

import pytest
from evidence_support import claimed, looked, stood
from ledger_support import S, flat, in_kafka, judged, processed, sent, take

from hopwatch_collector.engine import Store

COLUMNS = ("system", "destination", "receiver", "verdict")


NO_PLACE: dict[str, Any] = {"messaging__destination__partition__id": None, "messaging__kafka__offset": None}


def read_in(send: S, system: str, destination: str, receiver: str, **more: Any) -> S:
    """A receiver got a copy of what `send` sent from another place, a few seconds after."""
    return processed(send, receiver, start=3.0, service=receiver).but(
        messaging__system=system,
        messaging__destination__name=destination,
        hopwatch__destination=destination,
        **NO_PLACE | more,
    )


def of(store: Store, *columns: str, **more: float) -> list[tuple[Any, ...]]:
    """Some columns of all deliveries."""
    return sorted(flat(judged(store, **more), *(columns or COLUMNS)))


def test_a_copy_that_a_group_has_not_read_waits(store: Store) -> None:
    """A bridge copied a message to Kafka: one group read the copy, the other, which stands before it, still has it to read."""
    send = sent("orders", "rabbitmq")
    take(store, send, processed(send, "orders"), read_in(send, "kafka", "events", "fast", **in_kafka(7)))
    for group, position in (("fast", 8), ("slow", 7)):
        claimed(store, "kafka", "events", group)
        stood(
            store,
            "kafka",
            group,
            5.0,
            destination="events",
            partition="0",
            first=0,
            next=position,
            done=position,
            end=8,
        )
    looked(store, "kafka", 9.0)
    assert of(store) == [
        ("kafka", "events", "fast", "settled"),
        ("kafka", "events", "slow", "waiting"),
        ("rabbitmq", "orders", "orders", "settled"),
    ]
    assert dict(of(store, "receiver", "cause", now=60.0))["slow"] != "settled.uninstrumented"
    stood(store, "kafka", "slow", 61.0, destination="events", partition="0", first=0, next=8, done=8, end=8)
    looked(store, "kafka", 62.0)
    assert dict(of(store, "receiver", "cause", now=70.0))["slow"] == "settled.uninstrumented"


def test_a_copy_that_a_queue_holds_waits(store: Store) -> None:
    """A bridge copied a message from Kafka to an exchange: the queue that nobody reads has it, and had not before it came."""
    send = sent("events", "kafka", **in_kafka(7))
    take(store, send, processed(send, "group"), read_in(send, "rabbitmq", "all:", "mail"))
    claimed(store, "rabbitmq", "all:#", "mail")
    claimed(store, "rabbitmq", "all:#", "archive")
    numbers = {"in_hand": 0, "consumers": 0, "handed": 0, "acked": 0}
    stood(store, "rabbitmq", "archive", -5.0, waiting=4, published=4, **numbers)
    stood(store, "rabbitmq", "archive", 4.0, waiting=5, published=5, **numbers)
    looked(store, "rabbitmq", 20.0)
    looked(store, "kafka", 20.0)
    causes = {row["receiver"]: row["cause"] for row in judged(store, now=21.0)}
    assert causes == {"group": causes["group"], "mail": "settled.ack", "archive": "waiting.held"}
    looked(store, "rabbitmq", 55.0)
    assert {row["receiver"]: row["cause"] for row in judged(store, now=60.0)}["archive"] == "overdue.held"


def test_a_copy_in_a_stream_is_listed(store: Store) -> None:
    """A copy in a stream is owed by each of its consumers."""
    send = sent("events", "kafka", **in_kafka(7))
    copy = read_in(
        send, "nats", "orders.new", "ORDERS/mail", hopwatch__stream="ORDERS", hopwatch__sequence=12
    )
    take(store, send, copy)
    for consumer in ("ORDERS/mail", "ORDERS/audit"):
        claimed(store, "nats", "orders.*", consumer)
    stood(store, "nats", "ORDERS/audit", 5.0, partition="ORDERS", first=1, next=12, done=11, end=13)
    looked(store, "nats", 9.0)
    assert [row for row in of(store, "receiver", "cause") if row[0] == "ORDERS/audit"] == [
        ("ORDERS/audit", "waiting.held")
    ]


@pytest.mark.parametrize("seconds", [2.9, 30.0])
def test_whoever_comes_later_is_not_owed_it(store: Store, seconds: float) -> None:
    """A receiver that was not there when the copy was received is owed none, one that had just come is."""
    send = sent("orders", "rabbitmq")
    take(store, send, read_in(send, "kafka", "events", "fast", **in_kafka(7)))
    claimed(store, "kafka", "events", "late", seconds)
    receivers = {row["receiver"] for row in judged(store)}
    assert receivers == ({"fast", "late"} if seconds < 3 else {"fast"})
