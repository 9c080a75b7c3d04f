"""The same code and SQL over HTTP: a ClickHouse by URL instead of the embedded engine."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from clickhouse_lookalike import clickhouse
from ledger_support import (
    T0,
    asked,
    committed,
    engine_home,
    judged,
    processed,
    request,
    sent,
    subscribed,
    take,
    verdicts,
)

from hopwatch_collector.engine import QueryLimit, QueryLimits, Store, StoreSettings
from hopwatch_collector.errors import EngineRefusal, EngineUnavailable


@pytest.fixture(scope="module")
def served() -> Iterator[Store]:
    """A store that reaches its engine by URL, in a database of its own."""
    with clickhouse(engine_home()) as url:
        store = Store.open(f"{url}/hopwatch_http")
        yield store
        store.close()


def test_a_story_over_http(served: Store) -> None:
    """Migrations, inserts, verdicts and upkeep run over HTTP as they do embedded."""
    batch = request(
        subscribed(), sent("orders", message="01900000-0000-7000-8000-000000000001"), committed("orders", 3)
    )
    served.insert_otlp(batch, "journal-1")
    served.insert_otlp(batch, "journal-1")
    assert verdicts(served) == {"billing": "waiting"}
    send = sent("orders", message="01900000-0000-7000-8000-000000000001")
    take(served, processed(send))
    assert verdicts(served) == {"billing": "settled"}
    served.maintain()
    found = asked(served).message("01900000-0000-7000-8000-000000000001")
    assert found is not None
    assert [(one.receiver, one.verdict.value, len(one.history)) for one in found.deliveries] == [
        ("billing", "settled", 1)
    ]
    assert found.sent_at is not None
    assert found.sent_at >= T0


def test_hostile_parameters_over_http(served: Store) -> None:
    """Parameters are data over HTTP too."""
    for name in ("'; DROP TABLE spans; --", "\\", "a\tb\nc", "{x:String}", "&database=default", "é"):
        assert served.query("message_keys", {"alias": name}) == []


def test_limits_over_http(served: Store) -> None:
    """A server's refusal to go on is told as QueryLimit."""
    with pytest.raises(QueryLimit):
        served.query("span_rate", {"since": T0, "until": T0}, QueryLimits(memory_bytes=1))


def test_errors_over_http(served: Store) -> None:
    """Bytes at fault are told apart from a server that is gone."""
    with pytest.raises(EngineRefusal):
        served.insert_otlp(b"\xff\xff\xff\xff", "bad")
    with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1:1") as told:
        Store.open("http://user:secret@127.0.0.1:1/x")
    assert "secret" not in str(told.value)
    assert judged(served) is not None


@pytest.mark.parametrize("cluster", [None, "shards"])
def test_a_server_writes_to_its_disk_what_it_takes(cluster: str | None) -> None:
    """Every table is told to sync inserts, those of a database that an earlier version made too: the journal lets go of what was taken."""
    database = f"hopwatch_sync_{cluster}"
    unsynced = (
        f"SELECT name FROM system.tables WHERE database = '{database}' AND engine LIKE '%MergeTree%'"
        " AND name NOT LIKE 'migrations%' AND name NOT LIKE 'leases%' AND engine_full NOT LIKE '%fsync_after_insert = %'"
    )
    with clickhouse(engine_home(), cluster or "") as url:
        settings = StoreSettings(cluster=cluster)
        for _ in range(2):
            with closing(Store.open(f"{url}/{database}", settings)) as store:
                assert store._writer.query(unsynced).result_rows == []
                stored = store._layout.stored("spans")
                store._writer.command(f"ALTER TABLE {stored} RESET SETTING fsync_after_insert")
                assert store._writer.query(unsynced).result_rows == [(stored,)]
