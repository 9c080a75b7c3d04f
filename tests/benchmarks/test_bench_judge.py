"""`make bench-judge` as small as it can be: every part measures and counts right; and what is put in is what it says it is."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from benchmarks.judge import Part, run
from benchmarks.judge_fates import DELIVERIES_PER_MESSAGE, FATES, SECOND, Hour

from hopwatch_demo.patience import scale_wait

ROOT = Path(__file__).parents[2]


def figures_of(*parts: str) -> dict[str, str]:
    """The last line of a run of some parts."""
    command = [sys.executable, "-m", "benchmarks.judge", "--quick", "--parts", ",".join(parts)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=scale_wait(170), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(pair.split("=") for pair in done.stdout.splitlines()[-1].split())


def test_judging_an_hour_and_a_few() -> None:
    """Every delivery of every fate ends as it was meant."""
    figures = figures_of("settle")
    assert figures.pop("exact") == "yes"
    assert set(figures) == {"deliveries_per_cpu_s", "tick_ms", "scattered_tick_ms"}
    assert all(float(figure) > 0 for figure in figures.values())


def test_a_backlog() -> None:
    """Those caught up with are committed past, the others held."""
    figures = figures_of("backlog")
    assert figures.pop("exact") == "yes"
    assert set(figures) == {"backlog_cpu_s_per_min", "backlog_fed_cpu_s_per_min", "backlog_catch_up_ratio"}
    assert float(figures["backlog_catch_up_ratio"]) > 0


def test_real_collectors() -> None:
    """Under traffic and without any; all that was sent is settled at the end."""
    figures = figures_of("live", "idle")
    assert figures.pop("exact") == "yes"
    assert float(figures["ingest_cores"]) > 0
    assert 0 < float(figures["verdict_p50_s"]) <= float(figures["verdict_p99_s"]) < 60
    assert float(figures["idle_cpu_s_per_min"]) >= 0
    assert float(figures["live_view_cpu_s_per_min"]) >= 0


@pytest.mark.parametrize("messages", [100, 250, 8_050])
def test_what_is_put_in_is_what_is_counted(messages: int) -> None:
    """As many messages as there should be, each with an id of its own and facts of its sender and its receivers."""
    hour = Hour(messages, 1_800_000_000 * SECOND)
    counts, frames = zip(*hour.facts(), strict=True)
    facts = pl.concat(frames)
    assert sum(counts) == facts["message"].n_unique() == messages
    assert facts.filter(pl.col("receiver") == "").height == messages
    for fate in FATES:
        of_fate = facts.filter(pl.col("destination") == fate.destination)
        assert of_fate["message"].n_unique() == hour.count(fate)
        assert of_fate.height == hour.count(fate) * (1 + len(fate.seen))
    if messages % 100 == 0:
        assert hour.causes().total() == messages * DELIVERIES_PER_MESSAGE
    assert hour.causes().keys() <= Counter(cause for fate in FATES for cause in fate.causes).keys()


def test_a_wrong_count_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One part that counted wrong makes the whole run wrong."""
    right, wrong = (lambda _: Part({"a": 1.0})), (lambda _: Part({"b": 2.5}, exact=False))
    monkeypatch.setattr("benchmarks.judge.PARTS", {"right": right, "wrong": wrong})
    assert run(None, ["right"]) == ("a=1.0 exact=yes", True)  # type: ignore[arg-type]  # these parts ask nothing of it
    assert run(None, ["right", "wrong"]) == ("a=1.0 b=2.5 exact=no", False)  # type: ignore[arg-type]
