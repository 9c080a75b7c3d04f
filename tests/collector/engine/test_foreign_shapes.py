"""What other instrumentations write, recorded from them or read in their source, is one delivery to one receiver for each message."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from evidence_support import claimed
from ledger_support import CLIENT, CONSUMER, LOCAL, PRODUCER, REMOTE, S, asked, flat, judged, take

from hopwatch_collector.engine import Store

SHAPES: Final[Mapping[str, Any]] = json.loads(Path(__file__).with_name("foreign_shapes.json").read_text())
"""By library: where the spans are from, and the spans."""
KINDS = {"PRODUCER": PRODUCER, "CONSUMER": CONSUMER, "CLIENT": CLIENT}

SEEN: Final[Mapping[str, tuple[str, str, list[tuple[str, str, int]]]]] = {
    # System, receiver, and of each message where it went, who received it, its offset.
    "amqplib": ("rabbitmq", "mail", [("all:", "mail", -1), ("events:events", "mail", -1), ("events:order.new", "mail", -1), ("mail", "mail", -1)]),
    "java": ("rabbitmq", "mail", [("events:order.new", "mail", -1), ("mail", "mail", -1)]),
    "dotnet": ("rabbitmq", "mail", [("mail", "mail", -1)]),
    "pika": ("rabbitmq", "mail", [("events", "mail", -1), ("mail", "mail", -1)]),
    "aio_pika": ("rabbitmq", "mail2", [("events:order.new", "mail2", -1), ("mail2", "mail2", -1)]),
    "kafka-python": ("kafka", "ledger", [("kp-orders", "ledger", -1)]),
    "confluent-kafka": ("kafka", "ledger", [("ck-orders", "ledger", 0)]),
    "kafkajs": ("kafka", "ledger", [("orders", "ledger", 0), ("orders", "ledger", 1)]),
}  # fmt: skip


def spans_of(library: str) -> list[S]:
    """The spans of a library, the sender's a second before the others."""
    return [
        S(
            name=one["name"], service="shop", kind=KINDS[one["kind"]], scope=one["scope"], trace=bytes.fromhex(one["trace"]),
            id=bytes.fromhex(one["id"]), parent=bytes.fromhex(one["parent"]),
            flags=REMOTE if one["remote"] else LOCAL, attributes=one["attributes"],
            links=[(bytes.fromhex(trace), bytes.fromhex(span)) for trace, span in one["links"]],
            start=0.0 if one["kind"] == "PRODUCER" else 1.0, end=0.1 if one["kind"] == "PRODUCER" else 1.1,
        )
        for one in SHAPES[library]["spans"]
    ]  # fmt: skip


def known(store: Store, library: str) -> None:
    """A witness knows of one receiver, and of what it is entitled to."""
    system, receiver, _ = SEEN[library]
    patterns = (
        (receiver, "events:order.#", "events:events", "all:#")
        if system == "rabbitmq"
        else ("orders", "kp-orders", "ck-orders")
    )
    for pattern in patterns:
        claimed(store, system, pattern, receiver)


@pytest.mark.parametrize("library", SEEN)
def test_one_receiver_for_each_message(store: Store, library: str) -> None:
    """The queue or group that the broker knows and the service that processed the message are one receiver, and it is settled."""
    known(store, library)
    take(store, *spans_of(library))
    received = [row for row in judged(store) if row["consumer"]]
    assert sorted(flat(received, "destination", "receiver", "offset")) == SEEN[library][2]
    assert {row["verdict"] for row in received} == {"settled"}
    assert {tuple(row["witnesses"]) for row in received} == {("producer", "consumer")}


@pytest.mark.parametrize("library", SEEN)
def test_what_it_did_is_shown(store: Store, library: str) -> None:
    """The handing-over that the service told of belongs to the delivery, by whatever name."""
    known(store, library)
    take(store, *spans_of(library))
    receiver = SEEN[library][1]
    message = next(row["message"] for row in judged(store) if row["receiver"] == receiver and row["consumer"])
    found = asked(store).message(message.hex())
    (delivery,) = found.deliveries
    assert [(one.number, one.span_id != "") for one in delivery.history] == [(1, True)]


@pytest.mark.parametrize("library", SEEN)
def test_without_a_broker_the_service_is_all_there_is(store: Store, library: str) -> None:
    """Where nobody knows of queues or groups, each message has one receiver all the same."""
    take(store, *spans_of(library))
    received = [row for row in judged(store) if row["consumer"]]
    assert len(received) == len({row["message"] for row in received}) == len(SEEN[library][2])
    assert {row["verdict"] for row in received} == {"settled"}


def test_every_shape_says_where_it_is_from() -> None:
    """Each library's spans name their source, and none of them is left out."""
    assert set(SHAPES) == set(SEEN)
    assert all(shape["source"].startswith(("recorded: ", "by reading ")) for shape in SHAPES.values())
