"""`make bench-tui`: two budgets of the terminal view.

CPU of a view of 10,000 flows of which 300 change ten times a second, a fifth of those among the newest hundred: about every
second line in sight is another one each time. The view is `hopwatch live` as it is, on a real terminal of 160×60; beside it,
in the same run and in turn, what one would write otherwise: Textual's DataTable with the same rows and columns, whose cells
are updated where they changed. Counted is the CPU of the view's whole process by the wall clock, from taking in a change to
the bytes on the terminal. Not in it: start, filling the table the first time, and how the changes come to the process. They
are prepared beforehand for both; the collector's own snapshots hold at most 50 flows, 100 undelivered and 200 rows of lag.

From sent to visible on the screen, for messages sent at random moments over NATS, one flow each. In it, from right before the
call to publish: the instrumentation and its export, receiving, journal and insert, the snapshot, the stream, decoding, drawing,
until the bytes with the message's own line are read from the view's terminal. All are real processes of their own, with nothing
else in the collector's store. Not in it: the terminal emulator's own drawing. Visible means that the flow's line is there;
what became of the message is judged a moment later. The table says where the time goes.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from statistics import median

from benchmarks.tui_latency import STAGES, Course, measure, percentile
from benchmarks.tui_rows import Job, Result
from benchmarks.tui_terminal import on_terminal

VIEWS = {"tui": "hopwatch", "datatable": "datatable"}
BUDGET_SHARE, BUDGET_S = 0.10, 1.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("rows", "latency"), help="measure one of the two")
    parser.add_argument("--rounds", type=int, default=3, help="how often each view of rows is run")
    parser.add_argument("--seconds", type=float, default=8.0, help="measured each time")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--changing", type=int, default=300, help="rows that change ten times a second")
    parser.add_argument("--messages", type=int, default=400)
    parser.add_argument("--per-second", type=float, default=8.0)
    options = parser.parse_args()
    print(
        f"python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    closing: dict[str, str] = {}
    if options.only != "latency":
        closing |= rows(options.rows, options.changing, options.rounds, options.seconds)
    if options.only != "rows":
        closing |= latency(options.messages, options.per_second)
    print(*(f"{name}={value}" for name, value in closing.items()))


def rows(count: int, changing: int, rounds: int, seconds: float) -> dict[str, str]:
    """Run both views in turn."""
    print(f"{count:,} rows, {changing} changing at 10 Hz (budget: {BUDGET_SHARE:.0%} of a core)", flush=True)
    shares: dict[str, list[float]] = {name: [] for name in VIEWS}
    beats: dict[str, list[float]] = {name: [] for name in VIEWS}
    began = time.monotonic()
    for number in range(rounds):
        for name, view in VIEWS.items():
            result = show(Job(view, count, changing, 10.0, seconds))
            shares[name].append(result.cpu_s / result.seconds)
            beats[name].append(result.beats / result.seconds)
            print(
                f"{time.monotonic() - began:6.1f} s  round {number + 1} of {rounds}: {name} "
                f"{shares[name][-1]:.1%} of a core at {beats[name][-1]:.1f} Hz",
                flush=True,
            )
    said = {f"{name}_cpu_share": f"{median(shares[name]):.3f}" for name in VIEWS}
    return said | {f"{name}_hz": f"{median(beats[name]):.1f}" for name in VIEWS}


def show(job: Job) -> Result:
    """Run one view."""
    command = [sys.executable, "-m", "benchmarks.tui_rows", json.dumps(asdict(job))]
    with on_terminal(command) as process:
        assert process.stdout is not None
        told = process.stdout.read()
        try:
            status = process.wait(20)
        except subprocess.TimeoutExpired:
            sys.exit(f"the view {job.view} did not end")
    if status != 0:
        sys.exit(f"the view {job.view} failed")
    return Result(**json.loads(told.splitlines()[-1]))


def latency(count: int, per_second: float) -> dict[str, str]:
    """Send and watch messages."""
    print(f"{count} messages, {per_second:g} per second (budget: p99 {BUDGET_S:g} s)", flush=True)
    courses = measure(count, per_second)
    table(courses)
    took = [course.took for course in courses]
    said = {name: f"{percentile(took, share):.2f}" for name, share in _SHARES.items()}
    unseen = sum(course.drawn is None for course in courses)
    return {f"sent_to_screen_{name}_s": value for name, value in said.items()} | {"never_seen": str(unseen)}


_SHARES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


def table(courses: Sequence[Course]) -> None:
    """Where the time goes."""
    print(f"{'seconds':<24}{'p50':>8}{'p99':>8}{'max':>8}")
    for since, until in pairwise(STAGES):
        times = [(getattr(one, since), getattr(one, until)) for one in courses]
        spent = [there - before for before, there in times if before is not None and there is not None]
        if spent:
            figures = "".join(f"{percentile(spent, share):>8.3f}" for share in _SHARES.values())
            print(f"{since + ' → ' + until:<24}{figures}")


if __name__ == "__main__":
    main()
