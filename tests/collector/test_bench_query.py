"""`make bench-query` on a few spans: it measures both sides, and a wrong answer ends it."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from benchmarks.query import ask
from benchmarks.query_sides import Found, Kind, Question
from benchmarks.traffic import Story

from hopwatch_collector.query import Window

STORY = Story("a" * 32, ("m1", "m2"), "4711")
NOW = datetime.now(UTC)


def test_a_short_run() -> None:
    """It ends with one line of figures of every kind of question, for the spans there were."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.query",
        "--spans",
        "400",
        "--per-request",
        "50",
        "--ids",
        "1",
    ]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(pair.split("=") for pair in done.stdout.splitlines()[-1].split())
    assert figures["spans"] == "400"
    assert all(float(figures[f"{kind}_p99_ms"]) > 0 for kind in Kind)
    assert all(float(figures[f"vs_otel_{kind}"]) > 0 for kind in Kind)


class Forgetful:
    """A store that leaves one thing out of its answers."""

    name = database = table = "forgetful"

    def __init__(self, forgets: str) -> None:
        self._forgets = forgets

    def insert(self, payload: bytes, token: str) -> None:
        """It knows already."""

    def ask(self, asked: Question, window: Window) -> Any:
        return Found(asked.must - {self._forgets}, asked.spans - (self._forgets == "a span"))

    def read(self, answer: Found) -> Found:
        return answer


@pytest.mark.parametrize("forgets", ["a" * 32, "m2", "a span"])
def test_a_wrong_answer_ends_it(forgets: str) -> None:
    """An answer without a flow, a message or a span that was put in is no answer."""
    window = Window(NOW - timedelta(hours=1), NOW)
    with pytest.raises(SystemExit, match="WRONG: forgetful"):
        ask([Forgetful(forgets)], [STORY, STORY], window, warm=1)
    assert ask([Forgetful("nothing")], [STORY, STORY], window, warm=1)[Kind.FLOW]["forgetful"].wall_ms
