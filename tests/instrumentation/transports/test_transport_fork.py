"""Services that fork: parent and child record their own hops, and a message in hand stays the parent's."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hopwatch.conventions import MESSAGE_ID, RECEIVER, REPORT
from hopwatch_demo.patience import scale_wait

APP = Path(__file__).with_name("fork_app.py")


@pytest.mark.parametrize(
    ("adapter", "fixture"),
    [
        pytest.param("Nats", "nats_url", marks=pytest.mark.nats),
        pytest.param("RabbitMQ", "rabbitmq_url", marks=pytest.mark.rabbitmq),
        pytest.param("Kafka", "kafka_bootstrap", marks=pytest.mark.kafka),
    ],
)
def test_parent_and_child_record_their_own(
    request: pytest.FixtureRequest, unique: str, adapter: str, fixture: str
) -> None:
    """Each process's sends and attempts once, with ids of their own, and open hops reported in both."""
    url = request.getfixturevalue(fixture)
    done = subprocess.run(
        [sys.executable, str(APP), adapter, url, unique],
        capture_output=True,
        text=True,
        timeout=scale_wait(90),
        check=False,
        env={**os.environ, "PYTHONPATH": str(APP.parent)},
    )
    assert done.returncode == 0, done.stderr
    child, parent = (json.loads(line) for line in done.stdout.splitlines())
    assert [len(hops(child, kind)) for kind in ("PRODUCER", "CONSUMER")] == [3, 3]
    assert [len(hops(parent, kind)) for kind in ("PRODUCER", "CONSUMER")] == [4, 4]
    for spans in (child, parent):
        sent = {span[MESSAGE_ID]: span["span"] for span in hops(spans, "PRODUCER")}
        assert {span[MESSAGE_ID]: span["parent"] for span in hops(spans, "CONSUMER")} == sent
        assert [span for span in spans if span.get(REPORT) == "open"]
        assert len({span[RECEIVER] for span in hops(spans, "CONSUMER")}) == (1 if spans is child else 2)
    every = [span[MESSAGE_ID] for span in (*hops(child, "PRODUCER"), *hops(parent, "PRODUCER"))]
    assert len(set(every)) == 7
    assert len({span["span"] for span in (*child, *parent)}) == len(child) + len(parent)


def hops(spans: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the sends or the attempts."""
    return [span for span in spans if span["kind"] == kind]
