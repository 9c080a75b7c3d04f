"""Tables spread over the shards of a ClickHouse cluster: the statements, and all of them on a cluster of one node."""

import re
from collections.abc import Iterator

import pytest
from clickhouse_lookalike import clickhouse
from ledger_support import (
    asked,
    committed,
    engine_home,
    new_message,
    processed,
    request,
    sent,
    subscribed,
    take,
    verdicts,
)

from hopwatch_collector.engine import Store, StoreSettings, schema
from hopwatch_collector.engine.layout import SHARDED_BY, Cluster, OneServer, layout_of
from hopwatch_collector.errors import EngineUnavailable
from hopwatch_collector.settings import Settings

SHARDS = Cluster("shards")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The only node of a cluster of that name."""
    with clickhouse(engine_home(), "shards") as url:
        yield url


@pytest.fixture(scope="module")
def spread(address: str) -> Iterator[Store]:
    """A store whose tables are spread over it."""
    store = Store.open(f"{address}/hopwatch_spread", StoreSettings(cluster="shards"))
    yield store
    store.close()


def test_a_story_on_a_cluster(spread: Store) -> None:
    """Migrations, inserts sent again, verdicts, lookups, upkeep and retention work where every table is two."""
    message = new_message()
    send = sent("orders", message=message)
    batch = request(subscribed(), send, committed("orders", 3))
    spread.insert_otlp(batch, "journal-1")
    spread.insert_otlp(batch, "journal-1")
    assert verdicts(spread) == {"billing": "waiting"}
    take(spread, processed(send))
    assert verdicts(spread) == {"billing": "settled"}
    spread.maintain()
    found = asked(spread).message(message)
    assert found is not None
    assert [(one.receiver, one.verdict.value, len(one.history)) for one in found.deliveries] == [
        ("billing", "settled", 1)
    ]
    client = spread._writer
    assert client.query("SELECT count(), uniqExact(span_id) FROM spans_local").result_rows == [(4, 4)]


def test_old_days_are_dropped_where_they_lie(spread: Store) -> None:
    """Retention drops the days of the tables that hold rows, on every node."""
    client = spread._writer
    client.command("INSERT INTO told (day, message) VALUES (today() - 15, '0123456789abcdef')")
    assert client.command("SELECT count() FROM told WHERE day < today() - 14") == 1
    spread._upkeep.drop_old()
    assert client.command("SELECT count() FROM told WHERE day < today() - 14") == 0


def test_both_tables_have_the_same_columns(spread: Store) -> None:
    """What migrations change of a table that holds rows, they change of the one that spreads them."""
    tables = sorted(SHARDED_BY)
    found = spread._writer.query(
        "SELECT table, name, type FROM system.columns WHERE database = currentDatabase() ORDER BY table, name"
    ).result_rows
    columns = {
        table: [(name, kind) for of, name, kind in found if of == table]
        for table in [*tables, *(f"{table}_local" for table in tables)]
    }
    assert all(columns.values())
    assert {table: columns[table] for table in tables} == {
        table: columns[f"{table}_local"] for table in tables
    }


def test_rows_that_fold_into_one_lie_on_one_shard(spread: Store) -> None:
    """Of a table whose merges fold rows, the columns that choose the shard are part of its sorting key."""
    found = spread._writer.query(
        "SELECT name, engine, sorting_key FROM system.tables WHERE database = currentDatabase() AND name LIKE '%_local'"
    ).result_rows
    folding = {
        name.removesuffix("_local"): re.findall(r"\w+", key)
        for name, engine, key in found
        if engine != "MergeTree"
    }
    assert set(folding) < set(SHARDED_BY)
    for table, key in folding.items():
        by = re.findall(r"\w+", SHARDED_BY[table].removeprefix("cityHash64"))
        assert set(by) <= set(key), table


def test_every_table_says_what_it_is_spread_by() -> None:
    """No table of ours is left on one node, and none that is gone is named."""
    assert set(SHARDED_BY) == {*schema.own_tables(), "migrations", "leases"} - unkept()


def unkept() -> set[str]:
    """Tables that pass rows on and hold none."""
    made = "\n".join(migration.text for migration in schema.migrations())
    return set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)(?:(?!CREATE TABLE)[\s\S])*?ENGINE = Null", made))


def test_every_statement_is_one_that_clickhouse_reads(spread: Store) -> None:
    """What a real cluster is given, replicated engines and ON CLUSTER included, is ClickHouse's SQL and reaches every node."""
    given: list[str] = []
    schema.prepare(given.append, SHARDS)
    for migration in schema.migrations():
        given.extend(schema.statements(migration.text, SHARDS))
    given += [SHARDS.database("hopwatch"), SHARDS.alter("told_local", "DROP PARTITION '2026-01-01'")]
    for statement in given:
        read = spread._writer.query(
            "SELECT formatQuery({text:String})", parameters={"text": statement}
        ).result_rows
        told = read[0][0]
        assert told.startswith("INSERT") or "ON CLUSTER shards" in told, told
        assert (
            "MergeTree" not in told
            or "ReplicatedMergeTree" in told
            or re.search(r"Replicated\w+MergeTree", told)
        )


def test_a_database_laid_out_otherwise_is_refused(address: str) -> None:
    """Rows of a database that was made with --cluster would not be found without it, nor the other way round: it says so."""
    Store.open(f"{address}/hopwatch_plain").close()
    with pytest.raises(EngineUnavailable, match="made without --cluster"):
        Store.open(f"{address}/hopwatch_plain", StoreSettings(cluster="shards"))
    Store.open(f"{address}/hopwatch_both", StoreSettings(cluster="shards")).close()
    Store.open(f"{address}/hopwatch_both", StoreSettings(cluster="shards")).close()
    with pytest.raises(EngineUnavailable, match="made by a collector with --cluster"):
        Store.open(f"{address}/hopwatch_both")


def test_names_that_no_cluster_has() -> None:
    """A name that could be more than a name is refused, and so is a cluster without a server."""
    assert layout_of(None) == layout_of("") == OneServer()
    for name in ("a b", "x` SYNC --", "'", "ü", "a;b"):
        with pytest.raises(ValueError, match="no name of a cluster"):
            Cluster(name)
        with pytest.raises(ValueError, match="letters, digits"):
            Settings(cluster=name, engine_url="http://clickhouse:8123")
    with pytest.raises(ValueError, match="needs --engine-url"):
        Settings(cluster="shards")
    assert Settings(cluster="", engine_url=None).cluster is None
    assert Settings(cluster="my-shards.1", engine_url="http://clickhouse:8123").cluster == "my-shards.1"
