"""Two collectors write into one store; one is killed in the midst of work: the ledger is that of one collector."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import httpx
import pytest
from clickhouse_lookalike import clickhouse
from ledger_support import S, engine_home, processed, request, sent, subscribed
from support.collector import Collector
from support.waiting import eventually

from hopwatch_demo.patience import scale_wait

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

MESSAGES = 40


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """A ClickHouse server, as far as a collector can tell."""
    with clickhouse(engine_home()) as url:
        yield url


def story(number: int) -> list[S]:
    """A message to two receivers: one settles it, the other every second one only."""
    send = sent(f"orders.{number}", message=str(uuid.UUID(int=number + 1)))
    both = [subscribed(f"orders.{number}", name) for name in ("billing", "stock")]
    done = [processed(send, "billing"), *([processed(send, "stock")] if number % 2 else [])]
    return [*both, send, *done]


def take(collector: Collector, spans: list[S]) -> None:
    """Hand spans to a collector, which acknowledges them."""
    answer = httpx.post(
        f"{collector.otlp_http}/v1/traces",
        content=request(*spans),
        headers={"Content-Type": "application/x-protobuf"},
        trust_env=False,
        timeout=scale_wait(30),
    )
    assert answer.status_code == 200


def rows(url: str, database: str) -> list[tuple[str, str, str, str]]:
    """The current deliveries, and that nothing was counted twice."""
    with clickhouse_connect.get_client(dsn=url, database=database) as client:
        found = client.query(
            "SELECT hex(message) AS id, receiver, verdict, cause, sum(sign) AS n FROM deliveries"
            " GROUP BY id, receiver, verdict, cause HAVING n != 0 ORDER BY id, receiver"
        ).result_rows
    assert {row[-1] for row in found} <= {1}
    return [row[:4] for row in found]


def settled(url: str, database: str) -> int:
    """How many of them are settled."""
    return sum(row[2] == "settled" for row in rows(url, database))


def test_one_of_two_is_killed_and_the_ledger_is_that_of_one(served: str, tmp_path: Path) -> None:
    """Each takes half of every message's facts; whoever judged first dies, and the other goes on with what is there."""
    stories = [story(number) for number in range(MESSAGES)]
    # Times of the story are long ago: everything that waits is overdue, so that nothing changes by time alone.
    with Collector(tmp_path / "alone", "--engine-url", f"{served}/alone") as alone:
        take(alone, [span for spans in stories for span in spans])
        eventually(lambda: settled(served, "alone"), lambda found: found == MESSAGES * 3 // 2)
        wanted = eventually(lambda: rows(served, "alone"), lambda found: len(found) == 2 * MESSAGES)
    one, other = (Collector(tmp_path / name, "--engine-url", f"{served}/shared") for name in ("one", "other"))
    try:
        for number, spans in enumerate(stories[: MESSAGES // 2]):
            take(one, spans[number % 2 :: 2])
            take(other, spans[1 - number % 2 :: 2])
        eventually(lambda: settled(served, "shared"), within=90)
        for number, spans in enumerate(stories[MESSAGES // 2 :]):
            take(one, spans[number % 2 :: 2])
            take(other, spans[1 - number % 2 :: 2])
        one.kill()
        one.start()
        one.kill()  # what it acknowledged and had not inserted comes when it is there again
        eventually(lambda: settled(served, "shared"), lambda found: found >= MESSAGES // 2, within=90)
        one.start()
        eventually(lambda: rows(served, "shared"), lambda found: found == wanted, within=90)
        assert {row[2] for row in wanted} == {"settled", "overdue"}
    finally:
        one.stop()
        other.stop()
