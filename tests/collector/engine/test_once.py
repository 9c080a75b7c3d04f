"""A batch counts once in every table, however often it is sent, whoever made the tables, and across upgrades."""

from contextlib import closing
from pathlib import Path

import pytest
from ledger_support import S, committed, in_kafka, processed, request, sent, subscribed

from hopwatch_collector.engine import Store, schema

FIRST = 11
"""The last migration of the oldest version whose data directories are taken over."""

FOLDED = {
    "coverage", "commit_heads", "durable_subscriptions", "brief_subscriptions", "brokers", "commits", "ledger", "aliases",
    "resources", "losses", "span_minutes",
}  # fmt: skip
"""Tables in which the same row given twice is one row: not how often it lies there counts, but what is read."""
DISTINCT = {"links", "touched"}
"""Tables whose readers ask what is there, not how often: views were given other names by an upgrade, and feed them again."""


def batch() -> bytes:
    """Something for every table."""
    send = sent("orders", "kafka", **in_kafka(0)).but(
        **{"hopwatch.key.order_id": "4711", "messaging.message.id": "order 17"}
    )
    return request(
        send,
        processed(send, settle="none"),
        committed("orders", 1),
        subscribed("orders", "billing", "kafka"),
        subscribed("prices", "plain", durable=False),
        S(name="batch", links=[(send.trace, send.id)]),
    )


def counts(store: Store) -> dict[str, int]:
    """How many rows there are by table, as they are read."""
    found = {}
    for table in schema.own_tables():
        final = " FINAL" if table in FOLDED else ""
        # Totals are sums: how often something was counted shows in them rather than in the rows.
        what = "sum(calls)" if table == "span_totals" else "count()"
        rows = f"(SELECT DISTINCT * EXCEPT ('at') FROM {table})" if table in DISTINCT else table + final
        found[table] = int(store._writer.command(f"SELECT {what} FROM {rows}"))
    return found


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, int]]:
    """A batch, and what the tables hold when it was sent once."""
    payload = batch()
    with closing(Store.open(str(tmp_path_factory.mktemp("once")))) as store:
        store.insert_otlp(payload, "journal-1")
        found = counts(store)
    assert (found["spans"], found["span_totals"]) == (6, 4)
    assert all(found[table] for table in ("ledger", "links", "aliases", "coverage", "commits", "touched"))
    return payload, found


def test_a_batch_sent_again_after_a_restart_counts_once(
    tmp_path: Path, once: tuple[bytes, dict[str, int]]
) -> None:
    """The process that made the tables and those after it recognise the same batch."""
    payload, expected = once
    for _ in range(3):
        with closing(Store.open(str(tmp_path / "engine"))) as store:
            store.insert_otlp(payload, "journal-1")
            store.insert_otlp(payload, "journal-1")
            assert counts(store) == expected


@pytest.mark.parametrize("number", range(FIRST, len(schema.migrations())))
def test_a_batch_sent_again_after_an_upgrade_counts_once(
    tmp_path: Path, once: tuple[bytes, dict[str, int]], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A batch was inserted by an earlier version, which was killed before it knew: the next one sends it again."""
    payload, expected = once
    every = schema.migrations()
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "migrations", lambda: every[:number])
        with closing(Store.open(str(tmp_path / "engine"))) as store:
            store.insert_otlp(payload, "journal-1")
    with closing(Store.open(str(tmp_path / "engine"))) as store:
        store.insert_otlp(payload, "journal-1")
        found = counts(store)
        assert {table: rows for table, rows in found.items() if rows != expected[table]} == {}
