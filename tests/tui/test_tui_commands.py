"""The commands as a person runs them, against a real HTTP server, output into a pipe or a real pseudo-terminal."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hopwatch_collector.api import models
from hopwatch_demo.patience import scale_wait

Run = Callable[..., Any]

FLOW = f"{1:032x}"


def hit(**fields: Any) -> models.SearchHit:
    """A search hit."""
    defaults: dict[str, Any] = {
        "kind": "message",
        "id": "m-1",
        "why": "key order_id",
        "title": "orders.placed",
    }
    return models.SearchHit(
        **defaults | {"at": "2026-01-31T11:59:00Z", "state": "settled", "flow_id": FLOW} | fields
    )


def test_undelivered_prints_rows_for_pipes(api: Any, make: Any, hopwatch: Run) -> None:
    """Into a pipe: a header, one line per row, tabs between columns, ids whole, nothing else."""
    api.deliveries = [make.shop_flow().hops[2]]
    done = hopwatch("undelivered", "--each", "--destination", "orders.placed", "--since", "2h")
    header, row = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert dict(zip(header, row, strict=True)) == {
        "verdict": "overdue",
        "message_id": "00000000-0000-0000-0000-000000000002",
        "destination": "orders.placed",
        "receiver": "mail",
        "since": "2026-01-31T11:59:55.000Z",
        "attempts": "0",
        "reason": "no sign of delivery yet (no broker evidence)",
        "flow_id": FLOW,
    }
    assert (done.returncode, done.stderr) == (0, b"")
    ((path, asked),) = api.asked
    assert path == "deliveries"
    assert {("verdict", "undelivered"), ("destination", "orders.placed"), ("since", "2h")} <= set(asked)


def test_nothing_undelivered_is_exit_code_1(hopwatch: Run) -> None:
    """Nothing found prints no row and says so on stderr."""
    done = hopwatch("undelivered")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"nothing undelivered in the last 1h" in done.stderr


def test_json_is_the_answer_unchanged(api: Any, make: Any, hopwatch: Run) -> None:
    """--json prints the API's own bytes."""
    api.lag = [make.lag_row()]
    done = hopwatch("lag", "--json")
    assert done.stdout == models.LagList(rows=api.lag, truncated=False).model_dump_json().encode() + b"\n"
    assert done.returncode == 0


def test_json_of_nothing_is_still_json(hopwatch: Run) -> None:
    """--json prints the empty answer too, and the exit code says that it is empty."""
    done = hopwatch("find", "x", "--json")
    assert json.loads(done.stdout) == {"truncated": False, "query": "x", "hits": []}
    assert done.returncode == 1


def test_lag_prints_numbers(api: Any, make: Any, hopwatch: Run) -> None:
    """Numbers in a pipe are bare."""
    api.lag = [make.lag_row(waiting=12345)]
    assert (
        hopwatch("lag").stdout.splitlines()[1]
        == b"kafka\torders.placed\tbilling\t12345\t1\t4.250\t\t\tservices"
    )


def test_find_prints_what_matched(api: Any, hopwatch: Run) -> None:
    """A hit says what it is, its id to go on with, and why it matched."""
    api.hits = [hit()]
    done = hopwatch("find", "order_id=4711", "--verdict", "settled", "--verdict", "stuck")
    assert done.stdout.splitlines()[1].startswith(b"message\tm-1\tsettled\tkey order_id\torders.placed\t")
    (_, asked) = api.asked[0]
    assert [value for name, value in asked if name == "verdict"] == ["settled", "stuck"]
    assert ("q", "order_id=4711") in asked


def test_find_lists_what_there_was_in_a_stretch_of_time(api: Any, hopwatch: Run) -> None:
    """A time alone is enough to ask for."""
    api.hits = [hit()]
    assert hopwatch("find", "--since", "2m").returncode == 0
    assert hopwatch("find", "--until", "10m").returncode == 0
    assert [("since", "2m") in asked for _, asked in api.asked] == [True, False]


def test_find_needs_something_to_find(hopwatch: Run) -> None:
    """Neither query nor filter nor time is a usage error with an example."""
    done = hopwatch("find")
    assert done.returncode == 2
    assert b"hopwatch find order_id=4711" in done.stderr


def test_show_draws_a_flow_as_a_tree(api: Any, make: Any, hopwatch: Run) -> None:
    """Hops hang under what caused them, with verdict, latency and, where undelivered, the reason; no colours."""
    api.flows[FLOW] = make.shop_flow()
    done = hopwatch("show", FLOW)
    assert done.returncode == 0
    assert done.stdout.decode().splitlines()[1:] == [
        "└── http POST /orders → orders  ✓ settled 12ms",
        "    └── nats orders.placed  → 2 receivers",
        "        ├── → billing  ✓ settled 12ms",
        "        │   └── nats receipts → archive  ✓ settled 12ms",
        "        └── → mail  ! overdue  no sign of delivery yet (no broker evidence)",
    ]


@pytest.mark.parametrize("id", ["00000000-0000-0000-0000-000000000001", "alias-1"])
def test_show_finds_a_message_by_id_or_alias(api: Any, make: Any, hopwatch: Run, id: str) -> None:
    """A message shows its deliveries with attempts, and on whose word."""
    failed = make.attempt(1, error="card declined", settle_outcome="nack")
    api.messages["m"] = make.message(1, [make.delivery_detail(1, [failed, make.attempt(2)])])
    done = hopwatch("show", id)
    text = done.stdout.decode()
    assert done.returncode == 0
    for words in ("✓ settled", "producer, consumer", "card declined", "nack", "ORDERS @ 7", "order_id=4711"):
        assert words in text


def test_show_tells_what_is_open_in_doubt_and_declared(api: Any, make: Any, hopwatch: Run) -> None:
    """When the time of a delivery is up, what would settle a doubt, and that the team says who is owed it."""
    doubtful = make.delivery_detail(
        1, verdict="unknown", deadline=make.ago(0), missing="the word of the broker", declared=True
    )
    api.messages["m"] = make.message(1, [doubtful, make.delivery_detail(1, receiver="mail")])
    first, _, other = hopwatch("show", "alias-1").stdout.decode().partition("→ mail")
    for words in ("deadline  20", "missing   the word of the broker", "declared  the team says"):
        assert words in first
        assert words[:8] not in other


def test_show_follows_the_only_thing_a_search_finds(api: Any, make: Any, hopwatch: Run) -> None:
    """A trace id or key value that leads to one flow shows that flow."""
    api.flows[FLOW] = make.shop_flow()
    api.hits = [hit(kind="message"), hit(kind="flow", id=FLOW)]
    done = hopwatch("show", "4711")
    assert b"POST /checkout" in done.stdout


def test_show_of_nothing_is_exit_code_1(hopwatch: Run) -> None:
    """An id nobody knows is said so."""
    done = hopwatch("show", "nobody\x1b[31m")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"\x1b" not in done.stderr


@pytest.mark.parametrize("id", ["..", "a/b", "?x=1", "%2e", ""])
def test_ids_cannot_reach_other_paths(api: Any, hopwatch: Run, id: str) -> None:
    """Whatever is asked for stays one path segment under messages or flows."""
    hopwatch("show", id)
    assert {path.split("/")[0] for path, _ in api.asked} <= {"messages", "flows", "search"}
    assert all("?" not in path or "?" in id for path, _ in api.asked)


def test_no_collector_is_exit_code_3(hopwatch: Run) -> None:
    """Where nobody answers, the error says what to do next."""
    done = hopwatch("lag", collector="http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"No collector at http://127.0.0.1:1" in done.stderr
    assert b"hopwatch collect" in done.stderr


@pytest.mark.parametrize(
    "address", ["localhost:4319", "http://[", "http://h:8o", "http://h:99999", "http://xn--a-.b", "ftp://h"]
)
def test_a_wrong_address_is_said_so(hopwatch: Run, address: str) -> None:
    """Something that is no URL is an error with an example, not a traceback."""
    done = hopwatch("lag", "--collector", address)
    assert done.returncode == 3
    assert done.stderr.decode().startswith(f"hopwatch: Not a collector's address: {address}\n")
    assert b"http://127.0.0.1:4319" in done.stderr


@pytest.mark.parametrize("token", ["\u00fc", "a b", "new\nline"])
def test_a_token_that_cannot_be_one_is_said_so(hopwatch: Run, token: str) -> None:
    """What fits in no HTTP header is an error that says what does, not a traceback."""
    done = hopwatch("lag", "--token", token)
    assert done.returncode == 3
    assert b"printable ASCII characters without spaces" in done.stderr


def test_a_wanted_token_is_asked_for(api: Any, make: Any, hopwatch: Run) -> None:
    """Without the read token the error names the option; with it the answer comes."""
    api.token, api.lag = "secret", [make.lag_row()]
    refused = hopwatch("lag")
    assert refused.returncode == 3
    assert b"HOPWATCH_READ_TOKEN" in refused.stderr
    assert hopwatch("lag", HOPWATCH_READ_TOKEN="secret").returncode == 0


def test_the_collectors_own_words_are_passed_on(api: Any, hopwatch: Run) -> None:
    """A problem the collector reports is shown, cleaned, with exit code 3."""
    api.failing = "query limit reached \x1b[2J"
    done = hopwatch("lag")
    assert done.returncode == 3
    assert "query limit reached ␛[2J" in done.stderr.decode()


def test_hostile_names_stay_in_their_column(api: Any, make: Any, hopwatch: Run) -> None:
    """Tabs, newlines and escapes in a name make no other column, row or colour."""
    api.lag = [make.lag_row(destination="a\tb\nc\x1b[31m\u202e[red]")]
    _, row = hopwatch("lag").stdout.decode().splitlines()
    assert row.split("\t")[1] == "a b␊c␛[31m�[red]"


@pytest.mark.parametrize(
    "command",
    ["live", "find", "show", "why", "undelivered", "lag", "clocks", "flows", "topology", "status"],
)
def test_help_teaches_by_example(hopwatch: Run, command: str) -> None:
    """--help holds an example one can type, names the exit codes, and can be printed in any encoding."""
    done = hopwatch(command, "--help")
    assert done.returncode == 0
    assert f"  hopwatch {command}".encode() in done.stdout
    assert b"Exit codes: 0" in done.stdout
    assert done.stdout.isascii()


def test_live_needs_a_terminal(hopwatch: Run) -> None:
    """Without a terminal `live` names the commands that print rows."""
    done = hopwatch("live")
    assert done.returncode == 2
    assert b"hopwatch undelivered" in done.stderr


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_on_a_terminal_unless_declined(
    api: Any, make: Any, environment: dict[str, str], coloured: bool
) -> None:
    """A terminal gets a coloured table; NO_COLOR is honoured."""
    api.deliveries = [make.shop_flow().hops[2]]
    ours, theirs = pty.openpty()
    command = [Path(sys.executable).with_name("hopwatch"), "undelivered", "--each", "--collector", api.url]
    inherited = {
        name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLORTERM", "CI"}
    }
    process = subprocess.Popen(
        command, stdout=theirs, stderr=theirs, env=inherited | {"TERM": "xterm-256color"} | environment
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:
        pass  # how Linux says that nobody has the terminal open any more
    os.close(ours)
    assert process.wait(scale_wait(30)) == 0
    assert "! overdue" in shown.decode()
    assert (b"\x1b[33m" in shown) is coloured
