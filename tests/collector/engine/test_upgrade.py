"""A data directory of an earlier version is taken over: what it holds is judged like anything that comes in."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ledger_support import (
    CONSUMER,
    REMOTE,
    S,
    at,
    committed,
    in_kafka,
    judged,
    processed,
    sent,
    subscribed,
    take,
)

from hopwatch_collector.engine import Store, schema
from hopwatch_collector.judge.loop import Judge
from hopwatch_collector.query import Queries, SearchQuery, Window

BEFORE_THE_JUDGE = 11
"""The last migration of the version that judged when somebody asked."""

_NUMBERS = (
    "first", "end", "next", "done", "waiting", "in_hand", "consumers", "published", "handed", "acked", "ttl_ms",
    "max_length", "heard_from",
)  # fmt: skip


def held(store: Store, receiver: str, topic: str) -> None:
    """Write down, as that version did, that a group has read nothing of a topic."""
    numbers = dict.fromkeys(_NUMBERS, -1) | {"first": 0, "end": 9, "next": 0, "done": 0, "waiting": 9}
    row: dict[str, Any] = {
        "day": at(1).date(), "system": "kafka", "destination": topic, "receiver": receiver, "partition": "0", "at": at(1),
        "oldest_at": datetime(1970, 1, 1, tzinfo=UTC), "dead_letters": 0, "state": "", "uncounted": 0, **numbers,
    }  # fmt: skip
    store.write("positions", list(row), [list(row.values())])


BEFORE_LOOKUPS = 13
"""The last migration of the version that searched indexes over all spans."""


@pytest.mark.parametrize("number", [BEFORE_THE_JUDGE, BEFORE_LOOKUPS])
def test_what_an_earlier_version_stored_is_found_by_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Messages by id and alias, flows by trace, linked flows, business keys; and the sender of a receiver that still waits for it."""
    every = schema.migrations()
    send = sent("orders", "kafka", service="legacy").but(
        **{"hopwatch.key.order_id": "4711", "messaging.message.id": "order 17"}
    )
    batch = S(name="batch", links=[(send.trace, send.id)])
    foreign = S(
        name="orders process", service="ledger", kind=CONSUMER, start=1.0, end=1.1, flags=REMOTE, trace=send.trace, parent=send.id,
        attributes={"messaging.system": "kafka", "messaging.operation": "process", "messaging.kafka.consumer.group": "ledger"},
    )  # fmt: skip
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "migrations", lambda: tuple(one for one in every if one.number <= number))
        store = Store.open(str(tmp_path / "engine"))
        take(store, send, batch, foreign)
        store.close()
    store = Store.open(str(tmp_path / "engine"))
    try:
        store.maintain()
        Judge(store, lambda _: {}, clock=lambda: at(40).timestamp()).settle()
        queries = Queries(store)
        for name in (send.message, "order 17"):
            message = queries.message(name)
            assert message is not None
            assert (message.message_id, message.aliases) == (send.message, ["order 17"])
            assert [one.span_id for one in message.deliveries[0].history] == [foreign.id.hex()]
        flow, linking = queries.flow(send.trace.hex()), queries.flow(batch.trace.hex())
        assert flow is not None
        assert linking is not None
        assert {span.span_id for span in flow.spans} == {send.id.hex(), foreign.id.hex()}
        assert [one.flow_id for one in flow.linked] == [batch.trace.hex()]
        assert [one.flow_id for one in linking.linked] == [send.trace.hex()]
        found = queries.search(
            SearchQuery("order_id=4711", None, None, None, None, Window(at(-9), at(9)), 9)
        ).hits
        assert {hit.id for hit in found} == {send.message, send.trace.hex()}
    finally:
        store.close()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory that the version before the judge has left behind."""
    every = schema.migrations()
    with monkeypatch.context() as earlier:
        earlier.setattr(
            schema, "migrations", lambda: tuple(one for one in every if one.number <= BEFORE_THE_JUDGE)
        )
        store = Store.open(str(tmp_path / "engine"))
        settled, read, waits = (
            sent("orders"),
            sent("topic", "kafka", **in_kafka(0)),
            sent("topic", "kafka", **in_kafka(5)),
        )
        take(store, subscribed(), settled, processed(settled), sent("nowhere", outcome="returned"))
        take(
            store, subscribed("topic", "billing", "kafka"), subscribed("topic", "late", "kafka"), read, waits
        )
        take(store, processed(read, settle="none"), committed("topic", 1))
        take(store, subscribed("prices", "plain", durable=False, start=0.0), sent("prices", start=1.0))
        held(store, "late", "topic")
        store.close()
    return tmp_path


def test_what_an_earlier_version_stored_is_judged(directory: Path) -> None:
    """Messages, commits, subscriptions of both kinds and what brokers held: all of it bears on the verdicts."""
    store = Store.open(str(directory / "engine"))
    try:
        judge = Judge(store, lambda _: {}, clock=lambda: at(40).timestamp())
        judge.settle()
        window = Window(at(-60), at(60))
        told = {
            (one.destination, one.receiver, one.cause) for one in Queries(store).deliveries(window).deliveries
        }
        assert told == {
            ("orders", "billing", "settled.ack"),
            ("nowhere", "", "returned"),
            ("topic", "billing", "settled.committed"),
            ("topic", "billing", "overdue.no_evidence"),
            ("topic", "late", "overdue.held"),
            ("prices", "plain", "unknown.not_stored"),
        }
        assert {
            (row["destination"], row["receiver"], row["cause"]) for row in judged(store, now=40.0)
        } == told
        tables = {row[0] for row in store._writer.query("SHOW TABLES").result_rows}
        assert not tables & {"positions", "receivers", "receivers_from_incoming"}
    finally:
        store.close()


def test_a_migration_that_was_interrupted_is_applied_again(directory: Path) -> None:
    """A crash behind any statement of the migration leads to the same deliveries."""
    store = Store.open(str(directory / "engine"))
    try:
        (migration,) = (one for one in schema.migrations() if one.number == BEFORE_THE_JUDGE + 1)
        alters = [
            one for one in schema.statements(migration.text) if not one.split("\n")[0].startswith("INSERT")
        ]
        for statement in alters:  # what is left of it may be said once more
            if "INSERT INTO" not in statement:
                store._writer.command(statement)
        Judge(store, lambda _: {}, clock=lambda: at(40).timestamp()).settle()
        assert len(Queries(store).deliveries(Window(at(-60), at(60))).deliveries) == 7
    finally:
        store.close()


BEFORE_LEAN_INTAKE = 16
"""The last migration of the version that kept all moments of a delivery whole."""

_WRITTEN: list[dict[str, Any]] = [
    {"verdict": "settled", "first_at": at(0), "sent_at": at(0), "received_at": at(1), "since": at(2)},
    {"verdict": "unknown", "first_at": at(3), "sent_at": datetime(1970, 1, 1, tzinfo=UTC), "received_at": at(3), "since": at(3.5)},
    {"verdict": "overdue", "first_at": at(4), "sent_at": at(4.000001), "received_at": datetime(1970, 1, 1, tzinfo=UTC), "since": at(4)},
]  # fmt: skip


@pytest.mark.parametrize("left", [None, 4, 3, 2, 1, 0])
def test_deliveries_keep_their_moments_wherever_their_migration_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int | None
) -> None:
    """What an earlier version wrote is read to the microsecond, what has not happened too, however many statements were left to say."""
    every = schema.migrations()
    (migration,) = (one for one in every if one.number == BEFORE_LEAN_INTAKE + 1)
    every_statement = list(schema.statements(migration.text))
    with monkeypatch.context() as earlier:
        earlier.setattr(
            schema, "migrations", lambda: tuple(one for one in every if one.number <= BEFORE_LEAN_INTAKE)
        )
        with closing(Store.open(str(tmp_path / "engine"))) as store:
            rows = [
                row
                | {"day": row["first_at"].date(), "message": bytes([number]) * 16, "sign": 1, "version": 1}
                for number, row in enumerate(_WRITTEN, 1)
            ]
            store.write("deliveries", list(rows[0]), [list(row.values()) for row in rows])
            for statement in every_statement[: 0 if left is None else len(every_statement) - left]:
                store._writer.command(statement)
    with closing(Store.open(str(tmp_path / "engine"))) as store:
        found = store._writer.query(
            "SELECT verdict, first_at, sent_at, received_at, since FROM deliveries ORDER BY message"
        )
        assert list(found.named_results()) == _WRITTEN
        settled = store._writer.query("SELECT settled_at FROM deliveries ORDER BY message").result_rows
        assert [row[0] for row in settled] == [at(2), *[datetime(1970, 1, 1, tzinfo=UTC)] * 2]
