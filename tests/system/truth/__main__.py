"""Random scenarios on real brokers; every delivery that the collector tells is held against what really happened.

Each round draws topology, clients (instrumented, not instrumented, sampled, losing spans, killed, stopped, hanging),
settings and faults by the seed; every client writes down what it does; then the ledger is read through the API. Wrong
ones are told with the seed of their round, what happened, and what the collector says when asked why.

The last line counts: `unknown` where the maker of the round had taken the evidence away, `unknown_though_known` where
it had not. Exit code 1 where something is wrong, 2 where a round could not be played.
"""

import argparse
import shutil
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from random import SystemRandom

from hopwatch_demo.brokers import NAMES, Brokers
from truth.lane import Size
from truth.play import Plan, play

EXAMPLES = """\
examples:
  make truth ARGS="--minutes 10"                       ten minutes over all brokers, another seed each time
  make truth ARGS="--seed 7 --only kafka"              the rounds of one seed, over one broker
  make truth ARGS="--seed 7 --only kafka --round 3"    one round again: the same topology, clients and faults
"""


def main() -> int:
    """Play rounds for as long as is asked, and return the exit code."""
    parser = argparse.ArgumentParser(
        "truth", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, default=2.0, help="begin no round after so long (default: 2)"
    )
    parser.add_argument(
        "--seed", help="what all is drawn by (default: another one each time, told at the end)"
    )
    parser.add_argument(
        "--only", choices=NAMES, action="append", help="this broker only; several times: these"
    )
    parser.add_argument("--round", type=int, help="play this round of the seed and no other")
    parser.add_argument("--messages", type=int, default=600, help="messages a round (default: 600)")
    parser.add_argument(
        "--rate", type=float, default=100.0, help="messages a second and broker (default: 100)"
    )
    parser.add_argument("--calm", action="store_true", help="leave the collector running all the time")
    parser.add_argument("--keep", type=Path, help="keep records, and the collector's data, in this folder")
    asked = parser.parse_args()
    seed = asked.seed or str(SystemRandom().randrange(100_000))
    plan = Plan(
        seed=seed,
        rounds={
            name: count() if asked.round is None else [asked.round]
            for name in dict.fromkeys(asked.only or NAMES)
        },
        minutes=0.0 if asked.round is not None else asked.minutes,
        size=Size(asked.messages, asked.rate),
        calm=asked.calm,
    )
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="hopwatch-truth-"))
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True)

    try:
        with Brokers.start(plan.rounds, required=plan.rounds) as brokers:
            outcome = play(plan, brokers, folder, say)
    finally:
        if asked.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{outcome.tally} seeds={seed}", flush=True)
    return 1 if outcome.tally.wrong else 2 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
