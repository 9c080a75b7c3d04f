"""Several collectors over one store share out what only one of them may do."""

import threading
import time
from collections.abc import Iterator

import clickhouse_connect
import pytest
from clickhouse_lookalike import clickhouse
from ledger_support import engine_home

from hopwatch_collector.engine import Store
from hopwatch_collector.engine.leases import SharedLeases
from hopwatch_demo.patience import scale_wait

pytestmark = pytest.mark.usefixtures("store")
LASTS_S = scale_wait(1.5)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A ClickHouse server, as far as the store can tell, whose tables are there."""
    with clickhouse(engine_home()) as address:
        Store.open(f"{address}/hopwatch_shared").close()
        yield address


@pytest.fixture
def store(url: str) -> None:
    """Nobody has any job."""
    with clickhouse_connect.get_client(dsn=url, database="hopwatch_shared") as client:
        client.command("TRUNCATE TABLE leases")


@pytest.fixture
def collectors(url: str) -> Iterator[list[SharedLeases]]:
    """Three collectors' leases, which last a second and a half; let go at the end."""
    clients = [clickhouse_connect.get_client(dsn=url, database="hopwatch_shared") for _ in range(3)]
    some = [SharedLeases(client, LASTS_S) for client in clients]
    yield some
    for one, client in zip(some, clients, strict=True):
        one.stop()
        client.close()


def holders(collectors: list[SharedLeases], job: str) -> list[int]:
    """Which of them have a job."""
    return [number for number, one in enumerate(collectors) if one.held(job)]


def until(collectors: list[SharedLeases], job: str, wanted: int) -> int:
    """Wait until so many have a job, and return the first; never have two of them."""
    waiting = threading.Event()
    deadline = time.monotonic() + scale_wait(20)
    while time.monotonic() < deadline:
        found = holders(collectors, job)
        assert len(found) <= 1
        if len(found) == wanted:
            return found[0] if found else -1
        waiting.wait(0.02)
    raise AssertionError(f"{job}: {holders(collectors, job)}")


def keep_until_held(one: SharedLeases, job: str) -> None:
    """Have a collector ask for a job until it has it: what took too long to ask does not count."""
    deadline = time.monotonic() + scale_wait(20)
    while not one.held(job):
        assert time.monotonic() < deadline, job
        one.keep()


def test_one_of_several_has_a_job_for_as_long_as_it_asks(collectors: list[SharedLeases]) -> None:
    """All want it at once; one gets it and keeps it well beyond the time it was given first."""
    for one in collectors:
        one.held("judge")
        one.start()
    first = until(collectors, "judge", 1)
    for _ in range(40):
        threading.Event().wait(LASTS_S / 20)
        assert holders(collectors, "judge") == [first]


def test_a_job_that_is_let_go_is_taken_by_another(collectors: list[SharedLeases]) -> None:
    """An orderly stop does not make others wait until its time is over."""
    for one in collectors:
        one.held("judge")
        one.start()
    first = until(collectors, "judge", 1)
    collectors[first].stop()
    assert until([one for n, one in enumerate(collectors) if n != first], "judge", 1) >= 0
    assert not collectors[first].held("judge")


def test_a_job_of_one_that_died_is_taken_by_another(collectors: list[SharedLeases]) -> None:
    """Whoever stops asking loses it by its own clock before anybody else gets it."""
    dead, alive = collectors[:2]
    keep_until_held(dead, "judge")
    alive.held("judge")
    alive.start()
    assert until([dead, alive], "judge", 1) == 0
    assert until([dead, alive], "judge", 0) == -1
    assert until([dead, alive], "judge", 1) == 1


def test_jobs_are_shared_out_one_by_one(collectors: list[SharedLeases]) -> None:
    """Who wants only one of two jobs leaves the other to others."""
    one, other = collectors[:2]
    keep_until_held(one, "watch kafka east")
    other.held("watch kafka east")
    other.held("watch kafka west")
    deadline = time.monotonic() + scale_wait(20)
    found: list[list[int]] = []
    while found != [[0], [1]] and time.monotonic() < deadline:
        for collector in (one, other):
            collector.keep()
        found = [holders(collectors[:2], f"watch kafka {name}") for name in ("east", "west")]
        assert not any(len(some) > 1 for some in found)
    assert found == [[0], [1]]


def test_collectors_that_start_at_once_migrate_one_after_the_other(url: str) -> None:
    """An empty database, three collectors: every migration is applied once."""
    stores: list[Store] = []
    threads = [
        threading.Thread(target=lambda: stores.append(Store.open(f"{url}/hopwatch_together")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 3
    for one in stores:
        one.close()
    with clickhouse_connect.get_client(dsn=url, database="hopwatch_together") as client:
        counts = client.query("SELECT count() FROM migrations GROUP BY number").result_rows
    assert set(counts) == {(1,)}
