"""`make bench-tui` with little: it runs to its end and tells every figure."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hopwatch_demo.brokers import Brokers
from hopwatch_demo.patience import scale_wait

ROOT = Path(__file__).parents[2]


@pytest.mark.nats
def test_the_benchmark_of_the_terminal_view_tells_both_budgets(brokers: Brokers) -> None:
    """Both views of rows take some CPU and come after; every message sent is seen, and the stages add up to its time."""
    little = "--rounds 1 --seconds 0.5 --rows 200 --changing 20 --messages 4 --per-second 20"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tui", *little.split()],
        cwd=ROOT,
        env=os.environ | brokers.environ(),
        capture_output=True,
        text=True,
        timeout=scale_wait(150),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = {name: float(value) for name, value in re.findall(r"(\w+)=(\S+)", done.stdout.splitlines()[-1])}
    assert told["never_seen"] == 0
    assert 0 < told["tui_cpu_share"] < 2
    assert 0 < told["datatable_cpu_share"] < 2
    assert told["tui_hz"] > 0
    assert told["datatable_hz"] > 0
    assert 0 < told["sent_to_screen_p50_s"] <= told["sent_to_screen_p99_s"] <= told["sent_to_screen_max_s"]
    stages = re.findall(r"^(\w+) → (\w+) +[\d.-]+ +[\d.-]+ +([\d.-]+)$", done.stdout, re.MULTILINE)
    assert [name for name, _, _ in stages] == ["sent", "exported", "inserted", "asked", "came"]
    assert told["sent_to_screen_max_s"] <= sum(float(longest) for _, _, longest in stages) + 0.02
