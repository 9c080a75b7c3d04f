"""`make bench-query` on a few spans: it measures both sides, and a wrong answer ends it."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from benchmarks.query import ask
from benchmarks.query_ledger import HOURS, PutIn, measure
from benchmarks.query_sides import Found, Kind, Question
from benchmarks.traffic import Outcome, Shape, Story, bodies

from hopwatch_collector.engine import Store
from hopwatch_collector.query import Window
from hopwatch_demo.patience import scale_wait

STORY = Story("a" * 32, ("m1", "m2"), "4711")
NOW = datetime.now(UTC)


def test_a_short_run() -> None:
    """It ends with one line of figures of every kind of question, for the spans there were."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.query",
        "--spans",
        "2400",
        "--per-request",
        "20",
        "--ids",
        "1",
    ]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=scale_wait(120), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(pair.split("=") for pair in done.stdout.splitlines()[-1].split())
    assert figures["spans"] == "2400"
    assert figures["exact"] == "yes"
    assert all(float(figures[f"{kind}_p99_ms"]) > 0 for kind in Kind)
    assert all(float(figures[f"vs_otel_{kind}"]) > 0 for kind in Kind)
    over = [
        f"{what}_{hours}h" for what in ("undelivered", "deliveries", "lag", "topology") for hours in HOURS
    ]
    assert all(float(figures[f"{what}_cpu_ms"]) > 0 for what in (*over, "metrics", "live"))


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


def test_put_in_is_counted_by_minute() -> None:
    """Of every pair of requests the messages count once, by what becomes of them and when they were sent."""
    put_in = PutIn()
    for body in bodies(
        1_000, 10, int(NOW.timestamp() * 1e9), shape=Shape(7_200.0, minted=True, troubled_every=5)
    ):
        put_in.add(body)
    assert put_in.all() == {"settled": 300, "failed": 100, "overdue": 100}
    assert put_in.since(NOW - timedelta(hours=1)).total() == pytest.approx(250, abs=10)
    assert Shape(troubled_every=0).outcome(1) is Outcome.SETTLED


def test_a_wrong_count_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store that has nothing does not have what was put in."""
    put_in = PutIn()
    for body in bodies(40, 10, int(NOW.timestamp() * 1e9), shape=Shape(60.0, troubled_every=2)):
        put_in.add(body)
    store = Store.open(str(tmp_path))
    try:
        figures, exact = measure(store, put_in)
    finally:
        store.close()
    assert not exact
    assert "WRONG: lag_1h counts {}, put in were {'waiting': 10}" in capsys.readouterr().out
    assert figures["metrics_cpu_ms"] > 0
