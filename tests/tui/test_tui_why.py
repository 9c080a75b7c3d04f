"""`hopwatch why`, against a real HTTP server."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from hopwatch_collector.api import models

MESSAGE = "01890a5d-ac96-774b-bcce-b302099a8057"
AT = datetime(2026, 1, 31, 8, 0, 0, 250_000, tzinfo=UTC)


def explanation(receiver: str, **changes: Any) -> models.Explanation:
    """One delivery that Kafka still holds."""
    told = {
        "receiver": receiver,
        "verdict": models.Verdict.OVERDUE,
        "cause": "overdue.held",
        "reason": "the broker has held it for longer than the deadline",
        "since": AT,
        "deadline": AT,
        "evidence": [
            models.Evidence(witness="producer", at=AT, says="orders sent it"),
            models.Evidence(witness="broker", at=None, says="14 wait\x1b[31m"),
        ],
        "missing": "",
        "advice": "Start the receiver.",
        "decision": models.DecidedBy(
            cause="overdue.held",
            signals={"broker_holds": True, "waits_too_long": True},
            by_silence=False,
            otherwise="settled.ack",
            if_signal="acknowledged",
        ),
        **changes,
    }
    return models.Explanation(**told)


@pytest.fixture
def explained(api: Any) -> Any:
    """A collector that can explain one message with two receivers."""
    api.whys[MESSAGE] = models.Why(
        message_id=MESSAGE,
        system="kafka",
        destination="shop.placed",
        flow_id="f" * 32,
        explanations=[
            explanation("analytics"),
            explanation("", verdict=models.Verdict.UNKNOWN, missing="the word of the broker", advice=""),
        ],
    )
    return api


def test_why_tells_verdict_evidence_and_advice(explained: Any, hopwatch: Any) -> None:
    """Every receiver with its verdict, what each witness saw and when, what is missing and what to do."""
    done = hopwatch("why", MESSAGE)
    assert done.returncode == 0
    said = done.stdout.decode()
    assert "all times are UTC" in said
    assert "→ analytics  ! overdue  the broker has held it for longer than the deadline" in said
    assert "08:00:00.250  producer  orders sent it" in said
    assert "what to do: Start the receiver." in said
    assert f"deadline: {AT:%Y-%m-%d}" in said
    assert "decided by: overdue.held (broker_holds, waits_too_long); settled.ack if acknowledged" in said
    assert "→ nobody  ? unknown" in said
    assert "missing: the word of the broker" in said
    assert "\x1b" not in said


def test_why_of_one_receiver(explained: Any, hopwatch: Any) -> None:
    """--receiver leaves out the others; one that was not owed it is told so."""
    said = hopwatch("why", MESSAGE, "--receiver", "analytics").stdout.decode()
    assert "analytics" in said
    assert "nobody" not in said
    missed = hopwatch("why", MESSAGE, "--receiver", "billing")
    assert missed.returncode == 1
    assert b"it was not owed to billing" in missed.stderr


def test_why_in_json_is_the_answer_itself(explained: Any, hopwatch: Any) -> None:
    """Programs get what the API said."""
    done = hopwatch("why", MESSAGE, "--json")
    assert json.loads(done.stdout)["explanations"][0]["cause"] == "overdue.held"


def test_why_of_an_unknown_message(api: Any, hopwatch: Any) -> None:
    """Exit code 1 and where to look instead."""
    done = hopwatch("why", "order-7/é")
    assert done.returncode == 1
    assert b"hopwatch find" in done.stderr
