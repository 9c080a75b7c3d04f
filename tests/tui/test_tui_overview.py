"""`hopwatch flows`, `topology`, `lag --since` and `status`, against a real HTTP server, output into a pipe."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from hopwatch_collector.api import models

Run = Callable[..., Any]


def rows(done: Any) -> list[dict[str, str]]:
    """What a command printed, by column."""
    header, *lines = [line.split("\t") for line in done.stdout.decode().splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_flows_are_listed_with_their_state(api: Any, make: Any, hopwatch: Run) -> None:
    """One line per flow, its id whole; every filter reaches the collector."""
    api.summaries = [make.flow_summary(7, state="undelivered", undelivered=2)]
    filters = {"service": "orders", "destination": "orders.placed", "state": "undelivered"}
    filters |= {"since": "2h", "until": "1h", "limit": "5"}
    done = hopwatch("flows", *(part for name, value in filters.items() for part in (f"--{name}", value)))
    assert done.returncode == 0
    assert rows(done) == [
        {
            "flow_id": f"{7:032x}",
            "state": "undelivered",
            "name": "POST /orders/7",
            "service": "gateway",
            "started_at": "2026-01-31T11:59:53.000Z",
            "last_at": "2026-01-31T11:59:54.000Z",
            "duration_ms": "41.500",
            "spans": "9",
            "hops": "4",
            "undelivered": "2",
            "errors": "0",
            "services": "gateway orders",
            "keys": "order_id=7",
        }
    ]
    assert api.asked == [("flows", list(filters.items()))]


def test_topology_lists_who_reaches_whom(api: Any, make: Any, hopwatch: Run) -> None:
    """One line per edge with its numbers; a latency that nobody knows is empty."""
    api.edges = [make.edge()]
    done = hopwatch("topology", "--since", "2h", "--until", "1h")
    assert rows(done) == [
        {
            "producer": "orders",
            "system": "kafka",
            "destination": "orders.placed",
            "receiver": "billing",
            "consumer": "billing-worker",
            "deliveries": "1812",
            "undelivered": "3",
            "errors": "1",
            "p50_ms": "12.500",
            "p99_ms": "",
        }
    ]
    assert api.asked == [("topology", [("since", "2h"), ("until", "1h")])]


@pytest.mark.parametrize("command", ["flows", "topology"])
def test_none_is_exit_code_1_and_json_is_the_answer(api: Any, hopwatch: Run, command: str) -> None:
    """Nothing to list says for which time, and --json still prints the API's answer."""
    done = hopwatch(command, "--since", "5m", "--json")
    assert done.returncode == 1
    assert b"in the last 5m" in done.stderr
    assert json.loads(done.stdout)["truncated"] is False


def test_lag_since_leaves_the_choice_to_the_collector(api: Any, make: Any, hopwatch: Run) -> None:
    """`since` is asked for only where it was typed; nothing found says since when."""
    api.lag = [make.lag_row()]
    hopwatch("lag")
    hopwatch("lag", "--since", "2h")
    assert api.asked == [("lag", []), ("lag", [("since", "2h")])]
    api.lag = []
    done = hopwatch("lag", "--since", "2h")
    assert done.returncode == 1
    assert b"no receiver had anything to do in the last 2h" in done.stderr


def test_status_tells_how_things_stand(api: Any, make: Any, hopwatch: Run) -> None:
    """Version, engine, journal, every broker with its trouble, what comes in, deliveries by verdict."""
    api.health.witnesses.append(
        models.WitnessHealth(system="nats", broker="nats:4222", trouble="no permission\x1b[31m")
    )
    api.show(make.live(verdicts=[models.VerdictCount(verdict="settled", deliveries=1812)]))
    done = hopwatch("status")
    assert done.returncode == 0
    assert [line.split("\t") for line in done.stdout.decode().splitlines()] == [
        ["about", "name", "value"],
        ["collector", "status", "ok"],
        ["collector", "reason", ""],
        ["collector", "version", "0.1.0"],
        ["collector", "engine", "chdb 3.6.0"],
        ["collector", "journal_backlog_bytes", "4096"],
        ["broker", "kafka kafka:9092", ""],
        ["broker", "nats nats:4222", "no permission␛[31m"],
        ["spans", "per_s", "35.2"],
        ["deliveries", "settled", "1812"],
    ]


def test_status_in_json_holds_both_answers(api: Any, hopwatch: Run) -> None:
    """What /healthz says is under `health`, the snapshot under `live`."""
    told = json.loads(hopwatch("status", "--json").stdout)
    assert told["health"] == api.health.model_dump()
    assert told["live"]["spans_per_s"] == 35.2


@pytest.mark.parametrize("status", ["failing", "starting"])
def test_a_collector_that_is_not_ok_is_exit_code_4(api: Any, make: Any, hopwatch: Run, status: str) -> None:
    """It is told what the collector says of itself; what it would find out by a query is not asked for."""
    api.health = make.health(status=status, reason="the disk is full")
    done = hopwatch("status")
    assert done.returncode == 4
    assert f"collector\tstatus\t{status}".encode() in done.stdout
    assert f"the collector is {status}\n  the disk is full".encode() in done.stderr
    assert [path for path, _ in api.asked] == ["healthz"]
    assert json.loads(hopwatch("status", "--json").stdout)["live"] is None


def test_status_of_no_collector_is_exit_code_3(api: Any, hopwatch: Run) -> None:
    """Nobody there, or somebody who wants a token."""
    assert hopwatch("status", collector="http://127.0.0.1:1").returncode == 3
    api.token = "secret"
    assert hopwatch("status").returncode == hopwatch("lag").returncode == 3
    refused = hopwatch("status", "--token", "wrong")
    assert refused.returncode == hopwatch("lag", "--token", "wrong").returncode == 3
    assert b"wants a read token" in refused.stderr
