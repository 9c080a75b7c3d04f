"""Retention: whole days of our own tables go, by the engine's clock, and never many at once unless somebody says so."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from ledger_support import T0, asked, at, engine_home, processed, sent, subscribed, take
from structlog.testing import capture_logs

from hopwatch_collector.engine import Store, StoreSettings, schema
from hopwatch_collector.engine.upkeep import Upkeep
from hopwatch_collector.query import Window

TODAY = datetime.now(UTC).date()


def days_of(store: Store, table: str) -> set[int]:
    """The days that a table has, by their distance from today."""
    rows = store._writer.query(f"SELECT DISTINCT day FROM {table}").result_rows
    return {(day - TODAY).days for (day,) in rows}


def tell(store: Store, *days_ago: int) -> None:
    """A message that was sent and processed on each of these days."""
    for days in days_ago:
        start = (datetime.combine(TODAY - timedelta(days=days), time(12), UTC) - T0).total_seconds()
        send = sent(start=start)
        take(store, subscribed(start=start - 1), send, processed(send, start=start + 1))


def upkeep(store: Store, **settings: int) -> Upkeep:
    return Upkeep(store._keeper, StoreSettings(**settings))


@pytest.fixture
def otel_traces(store: Store) -> Iterator[str]:
    """Somebody else's table in our database, with a row for each of 90 days."""
    command = store._writer.command
    command(
        "CREATE TABLE otel_traces (ts DateTime('UTC')) ENGINE = MergeTree PARTITION BY toDate(ts) ORDER BY ts"
    )
    command(
        "INSERT INTO otel_traces SELECT now() - INTERVAL number DAY FROM numbers(90)",
        settings={"max_partitions_per_insert_block": 0},
    )
    yield "otel_traces"
    command("DROP TABLE otel_traces")


def test_old_days_are_dropped(store: Store) -> None:
    """What is older than the retention goes, by whole days and from every table; the rest stays."""
    tell(store, 20, 15, 14, 13, 0)
    asked(store).deliveries(Window(at(-1e7), at(1e5)))
    upkeep(store).drop_old()
    for table in ("spans", "ledger", "durable_subscriptions", "deliveries", "span_totals"):
        assert days_of(store, table) == {-14, -13, 0}, table


def test_what_was_judged_is_forgotten_after_a_day(store: Store) -> None:
    """What to judge again is kept until it was judged and for a day more, whatever the retention."""
    take(store, sent(start=0))
    store._writer.command("INSERT INTO touched SELECT day - 3, at - INTERVAL 3 DAY, message FROM touched")
    upkeep(store).drop_old()
    assert days_of(store, "touched") == {-3, 0}  # nothing has been judged yet
    asked(store).deliveries(Window(at(-60), at(60)))
    upkeep(store).drop_old()
    assert days_of(store, "touched") == {0}


def test_tables_of_others_are_left_alone(store: Store, otel_traces: str) -> None:
    """A day's partition of a table that no migration has made stays, however old it is."""
    tell(store, 20, 0)
    upkeep(store).drop_old()
    assert days_of(store, "spans") == {0}
    assert store._writer.query(f"SELECT count() FROM {otel_traces}").result_rows == [(90,)]


def test_more_days_than_may_go_at_once_stay(store: Store) -> None:
    """Three old days stay, all of them; the log names them, once, and says which option lets them go; with it they go."""
    tell(store, 22, 21, 20, 0)
    careful = upkeep(store)
    with capture_logs() as logged:
        careful.drop_old()
        careful.drop_old()
    assert days_of(store, "spans") == {-22, -21, -20, 0}
    [warning] = logged
    old = tuple(str(TODAY - timedelta(days=days)) for days in (22, 21, 20))
    assert (warning["log_level"], warning["event"], warning["days"]) == ("warning", "old days kept", old)
    assert careful.held_days == old
    assert "--drop-days 3" in warning["advice"]
    assert "HOPWATCH_DROP_DAYS=3" in warning["advice"]
    allowed = upkeep(store, drop_days=3)
    allowed.drop_old()
    assert days_of(store, "spans") == {0}
    assert allowed.held_days == ()


def test_days_that_came_to_be_few_are_held_no_longer(store: Store) -> None:
    """Where the retention is made longer, or some days go otherwise, the rest is dropped and no longer told as kept."""
    tell(store, 22, 21, 20, 0)
    careful = upkeep(store)
    careful.drop_old()
    parts = "SELECT DISTINCT table FROM system.parts WHERE database = currentDatabase() AND partition = {day:String}"
    for (table,) in store._writer.query(parts, parameters={"day": careful.held_days[0]}).result_rows:
        store._writer.command(f"ALTER TABLE {table} DROP PARTITION '{careful.held_days[0]}'")
    careful.drop_old()
    assert careful.held_days == ()
    assert days_of(store, "spans") == {0}


def test_the_collectors_clock_does_not_matter(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose clock is years ahead of the engine's drops nothing that the engine's clock lets stay."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(days=5000)

    monkeypatch.setattr("hopwatch_collector.engine.upkeep.datetime", Ahead)
    tell(store, 0)
    upkeep(store).drop_old()
    assert days_of(store, "spans") == {0}


@pytest.mark.parametrize("retention_days", [30_000, 10**12])
def test_a_retention_longer_than_dates_reach_drops_nothing(store: Store, retention_days: int) -> None:
    """So many days back that no date says them: everything is kept, and nothing is held back either."""
    tell(store, 20, 0)
    keeping = upkeep(store, retention_days=retention_days)
    keeping.drop_old()
    assert days_of(store, "spans") == {-20, 0}
    assert keeping.held_days == ()


def test_own_tables_are_those_the_migrations_make(store: Store) -> None:
    """The names read from the migrations are all that is in a database of our own, and their partitions are days or none."""
    found = dict(
        store._writer.query(
            "SELECT name, partition_key FROM system.tables WHERE database = currentDatabase() AND NOT is_temporary"
        ).result_rows
    )
    assert set(found) == set(schema.own_names())
    assert set(schema.own_tables()) < set(schema.own_names())
    assert {found[name] for name in schema.own_tables()} == {"day", ""}
    assert {name for name, key in found.items() if key} <= set(schema.own_tables())


def test_tables_of_others_are_named_at_the_start(store: Store, otel_traces: str) -> None:
    """Whoever shares a database with hopwatch reads so at the start, at most ten names of how many."""
    others = [f"other_{number:02}" for number in range(11)]
    for name in others:
        store._writer.command(f"CREATE TABLE {name} (x UInt8) ENGINE = Memory")
    try:
        with capture_logs() as logged:
            Store.open(engine_home()).close()
    finally:
        for name in others:
            store._writer.command(f"DROP TABLE {name}")
    [warning] = logged
    assert warning["event"] == "tables in the database are not hopwatch's"
    assert (warning["tables"], warning["count"]) == ([otel_traces, *others[:9]], 12)


def test_a_database_of_our_own_has_no_foreign_tables(store: Store) -> None:
    """Nothing is said where there is nothing but ours."""
    with capture_logs() as logged:
        store._upkeep.name_foreign_tables()
    assert logged == []
