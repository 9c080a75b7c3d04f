"""A data directory of an earlier version is taken over: what it holds is judged like anything that comes in."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ledger_support import at, committed, in_kafka, judged, processed, sent, subscribed, take

from hopwatch_collector.engine import Store, schema
from hopwatch_collector.judge.loop import Judge
from hopwatch_collector.query import Queries, Window

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
