"""`make bench-judge`: what it costs to judge deliveries, and how soon after a message was sent its verdict is known.

 1. `settle`: an hour of deliveries of all fates, judged from nothing; counts by cause are compared with what was put in.
 2. `tick`, with it: one look of the judge on top of that, with a hundred messages changed: sent lately, and from all of the hour.
 3. `backlog`: millions of records behind a Kafka group that is stopped, a running judge; then the group catches up.
 4. `live`: a real collector under steady traffic with viewers, beside one that judges nothing.
 5. `idle`: a real collector that nobody sends anything to.
CPU is that of the process that judges, threads of the embedded engine and its merges included. Ends with 1 where a count is wrong.
"""

import argparse
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import judge_backlog, judge_live, judge_settle

_UNITS: Final = {"": 1, "k": 1_000, "M": 1_000_000}

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    deliveries: int
    backlog: int
    catch_up: int
    seconds: float
    per_s: int
    minted: bool = True
    profile: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Figures of one part, and whether all that was counted was right."""

    figures: Figures
    exact: bool = True


def _settle(sizes: Sizes) -> Part:
    found = judge_settle.measure(sizes.deliveries, minted=sizes.minted, profile=sizes.profile)
    figures = {
        "deliveries_per_cpu_s": round(found.deliveries_per_cpu_s),
        "tick_ms": round(found.tick_ms, 1),
        "scattered_tick_ms": round(found.scattered_tick_ms, 1),
    }
    return Part(figures, found.exact)


def _backlog(sizes: Sizes) -> Part:
    seconds = min(sizes.seconds / 4, 30.0)
    found = judge_backlog.measure(sizes.backlog, sizes.catch_up, seconds, profile=sizes.profile)
    figures = {
        "backlog_cpu_s_per_min": round(found.cpu_s_per_min, 2),
        "backlog_fed_cpu_s_per_min": round(found.fed_cpu_s_per_min, 2),
        "backlog_catch_up_ratio": round(found.catch_up_ratio, 2),
    }
    return Part(figures, found.exact)


def _live(sizes: Sizes) -> Part:
    found = judge_live.measure_live(sizes.seconds, sizes.per_s)
    figures = {
        "ingest_cores": round(found.ingest_cores, 3),
        "judge_cores": round(found.judge_cores, 3),
        "live_cores": round(found.live_cores, 3),
        "verdict_p50_s": round(found.verdict_p50_s, 2),
        "verdict_p99_s": round(found.verdict_p99_s, 2),
    }
    return Part(figures, found.exact)


def _idle(sizes: Sizes) -> Part:
    found = judge_live.measure_idle(sizes.seconds / 2)
    return Part(
        {"idle_cpu_s_per_min": round(found.alone, 2), "live_view_cpu_s_per_min": round(found.watched, 2)}
    )


PARTS: Final[Mapping[str, Callable[[Sizes], Part]]] = {
    "settle": _settle,
    "backlog": _backlog,
    "live": _live,
    "idle": _idle,
}


def run(sizes: Sizes, names: Sequence[str]) -> tuple[str, bool]:
    """Some parts; return their figures in one line, and whether all counts were right."""
    figures: dict[str, float] = {}
    exact = True
    for name in names:
        print(f"\n{name}", flush=True)
        part = PARTS[name](sizes)
        figures |= part.figures
        exact &= part.exact
    words = [f"{name}={value}" for name, value in figures.items()]
    return " ".join([*words, f"exact={'yes' if exact else 'no'}"]), exact


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deliveries", type=_count, default=2_000_000, help="judged at once (default 2M)")
    parser.add_argument("--backlog", type=_count, default=5_000_000, help="records that wait (default 5M)")
    parser.add_argument(
        "--catch-up", type=_count, default=200_000, help="of these, caught up with (default 200k)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=120.0,
        help="of traffic with viewers (default 120); other stretches go by it",
    )
    parser.add_argument(
        "--per-second", type=_count, default=judge_live.PER_S, help="messages sent (default 2000)"
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them (default: %(default)s)")
    parser.add_argument(
        "--random-ids", action="store_true", help="message ids as of other SDKs, not by time (part 1 and 2)"
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="tell where the CPU of parts 1 to 3 goes; takes a little itself",
    )
    parser.add_argument(
        "--quick", action="store_true", help="everything as small as it can be, to see that it runs"
    )
    options = parser.parse_args()
    names = options.parts.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    sizes = Sizes(
        options.deliveries, options.backlog, options.catch_up, options.seconds, options.per_second,
        not options.random_ids, options.profile,
    )  # fmt: skip
    if options.quick:
        sizes = Sizes(20_000, 4_000, 2_000, 4.0, 200, sizes.minted, sizes.profile)
    print(
        f"python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    line, exact = run(sizes, names)
    print(f"\n{line}")
    sys.exit(not exact)


def _count(text: str) -> int:
    found = re.fullmatch(r"(\d+)([kM]?)", text)
    if found is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number such as 500000, 500k or 2M")
    return int(found[1]) * _UNITS[found[2]]


if __name__ == "__main__":
    main()
