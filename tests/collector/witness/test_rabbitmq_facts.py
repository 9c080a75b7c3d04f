"""What the firehose's messages tell, odd and hostile ones included."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_support import engine, store
from scenario_support import watching

from hopwatch_collector.engine import Store
from hopwatch_collector.witness.model import Look
from hopwatch_collector.witness.rabbitmq_firehose import facts
from hopwatch_collector.witness.watch import Watch

__all__ = ["engine", "store"]

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ID = "0198c0de-0000-7000-8000-000000000001"


def told(routing_key: str, headers: object) -> list[tuple[str, str, int, str]]:
    """What is told, without time; all of it of the message `ID`, if of any."""
    found = list(facts(routing_key, headers, AT))
    assert {one.message for one in found} <= {UUID(ID).bytes}
    return [(one.kind, one.receiver, one.number, one.words) for one in found]


def about(**more: Any) -> dict[str, Any]:
    """Headers of the firehose about that message."""
    return {"properties": {"headers": {"hopwatch-id": ID}, **more.pop("properties", {})}, **more}


def test_a_publish_tells_where_it_went() -> None:
    """Every queue it was routed to, and how long it may live."""
    headers = about(
        routing_keys=["eu.placed"], routed_queues=["one", "two"], properties={"expiration": "1500"}
    )
    assert told("publish.hub", headers) == [
        ("published", "", 0, ""), ("routed", "one", 0, ""), ("routed", "two", 0, ""), ("ttl", "", 1500, ""),
    ]  # fmt: skip


def test_a_delivery_tells_from_which_queue() -> None:
    """Names with dots are names; whether it was handed out before is kept."""
    assert told("deliver.eu.orders", about(redelivered=1)) == [("handed", "eu.orders", 1, "")]


def test_an_applications_own_id_is_a_key_of_its_own() -> None:
    """Without ours, a message is known by the id its sender gave it, and its destination is kept."""
    headers = {"properties": {"message_id": "order-7"}, "routing_keys": ["placed"], "routed_queues": []}
    [one] = facts("publish.hub", headers, AT)
    assert (one.alias, one.words) == ("order-7", "hub:placed")
    assert one.message == next(facts("deliver.orders", headers, AT)).message


@pytest.mark.parametrize(
    ("routing_key", "headers"),
    [
        ("publish.hub", None),
        ("publish.hub", {}),
        ("publish.hub", {"properties": None}),
        ("publish.hub", {"properties": {"headers": {"hopwatch-id": "no id"}}}),
        ("publish.hub", {"properties": {"message_id": ""}}),
        ("publish.hub", {"properties": {"message_id": "x" * 10_000}}),
        ("publish.hub", {"properties": {"message_id": 7}}),
        ("publish.", about(routing_keys=["amq.rabbitmq.reply-to.g2dk"])),
        ("deliver.amq.rabbitmq.trace", about()),
        ("deliver." + "x" * 600, about()),
        ("", about()),
        ("other.orders", about()),
    ],
)
def test_what_has_no_identity_or_makes_no_sense_tells_nothing(routing_key: str, headers: object) -> None:
    """It is passed over."""
    assert told(routing_key, headers) == []


def test_odd_lists_and_times_are_left_out() -> None:
    """The rest of what such a message tells is kept."""
    headers = about(
        routing_keys=None, routed_queues=["one", 7, "\ud800", None], properties={"expiration": "9" * 20}
    )
    assert told("publish.hub", headers) == [("published", "", 0, ""), ("routed", "one", 0, "")]
    assert len(told("publish.hub", about(routed_queues=[f"q{n}" for n in range(5000)]))) == 1001


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["properties", "headers", "hopwatch-id", "message_id", "routing_keys", "routed_queues"]
            )
            | st.text(),
            inner,
            max_size=4,
        )
    ),
)


@given(st.sampled_from(["publish.", "deliver."]), st.text(max_size=10), ANY)
def test_anything_can_be_told(kind: str, name: str, headers: object) -> None:
    """Whatever the headers are, the answer is facts with keys of 16 bytes, or none."""
    assert all(len(one.message) == 16 for one in facts(kind + name, headers, AT))


async def test_all_that_is_told_can_be_written_down(store: Store) -> None:
    """Names with quotes, newlines and escapes get into the engine and back."""
    name = 'it\'s "quoted"\n\x1b[31m'
    headers = {"properties": {"message_id": name}, "routing_keys": [name], "routed_queues": [name]}
    looks = [Look(told=tuple(facts("publish.hub", headers, datetime.now(UTC))), partial=True)]

    class Hose:
        system = "rabbitmq-firehose"
        broker = "elsewhere:5672"

        async def look(self) -> Look:
            return looks.pop()

        async def close(self) -> None:
            """Nothing is open."""

    watch: Watch = watching(Hose(), store)
    await watch.once()
    [key] = store.query("message_keys", {"alias": name})
    rows = store.query("message_told", {"message": key["message"].hex()})
    assert {(row["receiver"], row["kind"]) for row in rows} == {("", "published"), (name, "routed")}
