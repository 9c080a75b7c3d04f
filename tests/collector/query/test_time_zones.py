"""Days are those of UTC, wherever the engine's host is: what is stored on one is found on it, over HTTP as well.

The embedded engine takes its zone from `TZ` as the process starts, so that all of this runs again in processes elsewhere.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_lookalike import clickhouse
from ledger_support import T0, S, at, engine_home, processed, sent, subscribed, take
from ledger_support import asked as questions

from hopwatch_collector.engine import Store
from hopwatch_collector.query import Window
from hopwatch_demo.patience import scale_wait

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
ROOT = Path(__file__).parents[3]
WATCH = ("day", "system", "broker", "at", "ok", "trouble", "requests", "took_ms")


def elsewhere() -> str:
    """A zone in which it is another day at this moment than in UTC."""
    return "Etc/GMT+12" if datetime.now(UTC).hour < 12 else "Etc/GMT-14"


DAYS, ROWS = "test_every_client_counts_days_in_utc", "test_rows_that"
ELSEWHERE = {
    "Pacific/Kiritimati": "not another_zone",
    "America/Los_Angeles": f"({DAYS} and embedded) or {ROWS}",
    elsewhere(): f"({DAYS} and embedded) or test_an_absurd_day",
}
"""Zones, and which of the tests below are worth their time there."""


@pytest.mark.parametrize("zone", ELSEWHERE)
def test_the_same_holds_in_another_zone(zone: str) -> None:
    """A collector whose host is fourteen hours ahead of UTC, or eight behind, answers as one in UTC does."""
    which = f"({ELSEWHERE[zone]}) and not another_zone"
    again = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", which, __file__)
    done = subprocess.run(
        again,
        capture_output=True,
        text=True,
        timeout=scale_wait(120),
        check=False,
        env={**os.environ, "TZ": zone},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.fixture(params=["embedded", "http"])
def asked(request: pytest.FixtureRequest) -> Store:
    """The same store in this process and by URL."""
    return request.getfixturevalue("store" if request.param == "embedded" else "served")


@pytest.fixture(scope="module")
def served() -> Iterator[Store]:
    with clickhouse(engine_home()) as url:
        store = Store.open(f"{url}/hopwatch_zones")
        yield store
        store.close()


def clients(store: Store) -> list[Any]:
    return [store._writer, store._keeper, store._scribe, *store._readers.queue]


def test_every_client_counts_days_in_utc(asked: Store) -> None:
    """Bound moments arrive as they are, their days are those of UTC, and so is today."""
    moment = datetime.combine(YESTERDAY, time(20, 30, 15, 123_456), UTC)
    question = (
        "SELECT toUnixTimestamp64Micro({m:DateTime64(6)}), toDate({m:DateTime64(6)}), toDate({m:DateTime64(6)} - INTERVAL 18 HOUR),"
        " today(), toDate(now64(6)), timezone(), {m:DateTime64(6)}, toStartOfDay({m:DateTime64(6)})"
    )
    for client in clients(asked):
        row = client.query(question, parameters={"m": moment}).result_rows[0]
        today = datetime.now(UTC).date()
        assert row[0] == round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
        assert row[1:6] == (YESTERDAY, YESTERDAY, today, today, "UTC")
        assert (row[6], row[6].utcoffset()) == (moment, timedelta(0))
        assert row[7] == datetime.combine(YESTERDAY, time(), UTC)


@pytest.mark.parametrize("hour", [3, 20])
def test_what_was_sent_on_a_day_is_found_on_it(store: Store, hour: int) -> None:
    """Messages of the early morning and of the late evening are in every answer about those minutes."""
    began = (datetime.combine(YESTERDAY, time(hour), UTC) - T0).total_seconds()
    send = sent(start=began)
    take(store, subscribed(start=began - 1), send, processed(send, start=began + 1))
    queries, window = questions(store), Window(at(began - 60), at(began + 60))
    [found] = queries.deliveries(window).deliveries
    assert (found.message_id, found.receiver, found.verdict.value) == (send.message, "billing", "settled")
    assert [flow.flow_id for flow in queries.flows(window).flows] == [send.trace.hex()]
    message = queries.message(send.message)
    assert message is not None
    assert (message.sent_at, len(message.deliveries[0].history)) == (at(began), 1)


def test_rows_that_are_written_keep_day_and_moment(store: Store) -> None:
    """What witnesses write is read back as it was, and lies under the day that its moment has in UTC."""
    moments = [datetime.combine(YESTERDAY, time(hour, 30, 0, 5), UTC) for hour in (3, 20)]
    store.write("watches", WATCH, [[at.date(), "nats", "here", at, 1, "", 1, 1] for at in moments])
    for client in clients(store):
        told = client.query(
            "SELECT day, at, toDate(at), at = {m:DateTime64(6)}, toDateTime(at, 'UTC') FROM watches ORDER BY at",
            parameters={"m": moments[1]},
        ).result_rows
        assert told == [
            (YESTERDAY, at, YESTERDAY, int(at == moments[1]), at.replace(microsecond=0)) for at in moments
        ]


def test_an_absurd_day_is_filed_under_today(store: Store) -> None:
    """Spans dated years away, and what services are made of, lie under the day that it is in UTC, not on the host's."""
    take(store, S(start=-100_000_000.0))
    for table in ("spans", "resources"):
        rows = store._writer.query(f"SELECT day FROM {table}").result_rows
        assert rows == [(datetime.now(UTC).date(),)]


def test_minutes_of_edges_are_those_of_utc(store: Store) -> None:
    """Upkeep sums up the minutes that have just passed, and the sums lie under the day these have in UTC."""
    began = (datetime.now(UTC) - T0).total_seconds() - 20
    send = sent(start=began)
    take(store, send, processed(send, start=began + 0.1))
    store._upkeep.sum_edges()
    [(day, minute, requests)] = store._writer.query("SELECT day, minute, requests FROM edges").result_rows
    assert (day, requests) == (minute.date(), 1)
    assert abs(minute - at(began)) < timedelta(minutes=2)
