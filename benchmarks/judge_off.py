"""`python -m benchmarks.judge_off`: a collector that takes everything in and judges nothing, to compare with."""

import typer

from hopwatch_collector.cli import command
from hopwatch_collector.judge.loop import Judge


def _never(_judge: Judge) -> None:
    """Instead of judging."""


if __name__ == "__main__":
    # There is no switch for it.
    Judge.start = Judge.wake = _never  # type: ignore[assignment, method-assign]
    typer.run(command)
