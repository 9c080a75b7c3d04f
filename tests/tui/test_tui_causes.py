"""`hopwatch undelivered`: by cause first, single deliveries where asked for."""

import json
from collections.abc import Callable
from typing import Any

Run = Callable[..., Any]


def test_undelivered_is_grouped_by_cause(api: Any, make: Any, hopwatch: Run) -> None:
    """One line per cause with counts, times, reason, advice and samples; filters reach the collector."""
    api.causes = [make.cause()]
    done = hopwatch("undelivered", "--destination", "orders.placed", "--since", "2h", "--verdict", "overdue")
    assert done.returncode == 0
    header, row = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert dict(zip(header, row, strict=True)) == {
        "deliveries": "2375",
        "verdict": "overdue",
        "cause": "overdue.held",
        "destination": "orders.placed",
        "receiver": "billing",
        "reason": "the broker has held it for longer than the deadline",
        "advice": "Start the receiver.",
        "first_at": "2026-01-31T08:40:00.000Z",
        "last_at": "2026-01-31T11:59:48.000Z",
        "sample_message_ids": "00000000-0000-0000-0000-000000000002 00000000-0000-0000-0000-000000000003",
        "system": "kafka",
    }
    ((path, asked),) = api.asked
    assert path == "undelivered"
    assert {("destination", "orders.placed"), ("since", "2h"), ("verdict", "overdue")} <= set(asked)


def test_causes_in_json_are_the_answer_itself(api: Any, make: Any, hopwatch: Run) -> None:
    """--json prints what the API says of causes, or of single deliveries with --each."""
    api.causes, api.deliveries = [make.cause()], [make.delivery(verdict="overdue")]
    assert json.loads(hopwatch("undelivered", "--json").stdout)["causes"][0]["cause"] == "overdue.held"
    assert json.loads(hopwatch("undelivered", "--each", "--json").stdout)["deliveries"]


def test_no_cause_is_nothing_found(api: Any, hopwatch: Run) -> None:
    """Exit code 1, and for which time that holds."""
    done = hopwatch("undelivered", "--since", "2h")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"nothing undelivered in the last 2h" in done.stderr
    assert b"since 2026-01-31T08:00:00Z" in hopwatch("undelivered", "--since", "2026-01-31T08:00:00Z").stderr


def test_a_verdict_from_silence_says_so(api: Any, make: Any, hopwatch: Run) -> None:
    """What rests on nobody having said anything is marked, with the time until which it may change while there is one."""
    api.causes = [make.cause(by_silence=True)]
    silent = {"verdict": "no_receiver", "reason": "nobody", "by_silence": True}
    api.deliveries = [
        make.delivery(1, **silent, provisional_until=make.ago(-30)),
        make.delivery(2, **silent),
        make.delivery(3, verdict="overdue", reason="held"),
    ]
    (cause,) = _rows(hopwatch("undelivered"))
    assert cause["reason"] == "the broker has held it for longer than the deadline · from silence"
    assert [row["reason"] for row in _rows(hopwatch("undelivered", "--each"))] == [
        "nobody · from silence, may change until 12:00:30",
        "nobody · from silence",
        "held",
    ]


def _rows(done: Any) -> list[dict[str, str]]:
    header, *rows = [line.split("\t") for line in done.stdout.decode().splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]
