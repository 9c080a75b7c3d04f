"""`make bench-overhead`: CPU that instrumentation adds to each message, whole process, export to a real sink included.

Every library runs without instrumentation, with headers alone, with hopwatch and with what OpenTelemetry offers today,
each in a process of its own, in turn, round after round; figures are medians of what a round added. Brokers are real; the CPU of
brokers, sink and callers is not counted.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import timeit
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median

from benchmarks.overhead_load import Job, Result
from benchmarks.overhead_modes import LIBRARIES, Mode
from hopwatch_demo.brokers import Brokers

_COUNTS = {"aiokafka": 20_000, "nats": 20_000, "aio_pika": 4_000, "fastapi": 6_000, "httpx": 1_500}
_CALLS = 1_500
_WARM = 1_000
_BROKERS = {"nats": "nats", "aio_pika": "rabbitmq", "aiokafka": "kafka"}


@dataclass(slots=True)
class Figures:
    """CPU µs per message of one operation, a figure per round and mode."""

    rounds: list[dict[Mode, float]] = field(default_factory=list)

    @property
    def own(self) -> float:
        """What the library itself costs."""
        return median(cpu[Mode.NONE] for cpu in self.rounds)

    def added(self, mode: Mode) -> float:
        """What a mode adds to it."""
        return median(cpu[mode] - cpu[Mode.NONE] for cpu in self.rounds)

    @property
    def times_cheaper(self) -> float:
        """How many times as much contrib adds."""
        return self.added(Mode.CONTRIB) / self.added(Mode.HOPWATCH)


Table = dict[str, dict[str, Figures]]
"""Library → operation → figures."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=LIBRARIES, default=list(LIBRARIES), metavar="LIBRARY")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual number of messages")
    parser.add_argument("--sdk", action="store_true", help="also hopwatch on the SDK's own provider")
    options = parser.parse_args()
    print(f"{_interpreter()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    modes = [mode for mode in Mode if options.sdk or mode is not Mode.HOPWATCH_SDK]
    needed = [_BROKERS[name] for name in options.only if name in _BROKERS]
    with Brokers.start(needed, required=needed) as brokers, _peer(brokers) as peer:
        table, drops = measure(options.only, modes, options.rounds, options.scale, peer)
    show(table, modes, drops)


def measure(
    libraries: list[str], modes: list[Mode], rounds: int, scale: float, peer: dict[str, object]
) -> tuple[Table, Counter[Mode]]:
    """All rounds of all libraries; and how many spans of each mode never came to the sink."""
    table: Table = {}
    drops: Counter[Mode] = Counter()
    began = time.monotonic()
    for number in range(rounds):
        for library in libraries:
            results: dict[Mode, Result] = {}
            fit = [mode for mode in modes if mode is not Mode.HEADERS or LIBRARIES[library].headers]
            for mode in fit[number % len(fit) :] + fit[: number % len(fit)]:
                count = int(_COUNTS.get(library, _CALLS) * scale)
                job = {"library": library, "mode": mode, "run": f"b{uuid.uuid4().hex[:12]}"}
                results[mode] = run(Job(**job, count=count, warm=_WARM, **peer))  # type: ignore[arg-type]
                drops[mode] += missing(results[mode]) if mode.records else 0
            for operation in results[Mode.NONE].cpu_us:
                figures = table.setdefault(library, {}).setdefault(operation, Figures())
                figures.rounds.append({mode: results[mode].cpu_us[operation] for mode in fit})
        print(f"{time.monotonic() - began:6.1f} s  round {number + 1} of {rounds}", flush=True)
    return table, drops


def run(job: Job) -> Result:
    """Run one job in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.overhead_load", json.dumps(asdict(job))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300, check=False)
    if done.returncode != 0:
        sys.exit(f"{job.library} with {job.mode} failed")
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def missing(result: Result) -> int:
    """How many of a job's spans did not come to the sink."""
    return sum(max(0, count - result.arrived.get(kind, 0)) for kind, count in result.expected.items())


def show(table: Table, modes: list[Mode], drops: Counter[Mode]) -> None:
    """A table for people, and one line for machines."""
    added = [mode for mode in modes if mode is not Mode.NONE]
    head = f"{'CPU µs per message':<22}{'own':>9}" + "".join(f"{'+ ' + mode:>14}" for mode in added)
    print(f"\n{head}{'contrib/ours':>14}{'ours/own':>10}")
    for library, operations in table.items():
        for operation, figures in operations.items():
            cells = (f"{figures.added(mode):.1f}" if mode in figures.rounds[0] else "" for mode in added)
            share = figures.added(Mode.HOPWATCH) / figures.own
            row = f"{library + ' ' + operation:<22}{figures.own:>9.1f}{''.join(f'{cell:>14}' for cell in cells)}"
            print(f"{row}{figures.times_cheaper:>13.1f}x{share:>10.0%}")
    lost = ", ".join(f"{mode} {drops[mode]}" for mode in added if mode.records)
    print(f"spans that never came to the sink: {lost}")
    print(" ".join(f"{name}={value}" for name, value in closing(table, drops).items()))


def closing(table: Table, drops: Counter[Mode]) -> dict[str, str]:
    """The figures that the budgets speak of, as far as they were measured."""
    said: dict[str, str] = {}
    for name, (library, operation) in _MICROSECONDS.items():
        if library in table:
            said[name] = f"{table[library][operation].added(Mode.HOPWATCH):.1f}"
    for operation in table.get("aio_pika", {}):
        figures = table["aio_pika"][operation]
        said[f"aiopika_{operation}_ratio"] = f"{figures.added(Mode.HOPWATCH) / figures.own:.2f}"
    for library in ("fastapi", "httpx", "grpc_client", "grpc_server"):
        for figures in table.get(library, {}).values():
            said[f"{library}_vs_contrib"] = f"{figures.times_cheaper:.1f}"
    for library in ("aiokafka", "nats"):
        if library in table:
            worst = min(figures.times_cheaper for figures in table[library].values())
            said[f"vs_contrib_{library}"] = f"{worst:.1f}"
    return said | {"drops": str(drops[Mode.HOPWATCH])}


_MICROSECONDS = {
    "aiokafka_send_us": ("aiokafka", "send"),
    "aiokafka_getone_us": ("aiokafka", "getone"),
    "aiokafka_getmany_us": ("aiokafka", "getmany"),
    "nats_publish_us": ("nats", "publish"),
    "nats_consume_us": ("nats", "consume"),
}


@contextmanager
def _peer(brokers: Brokers) -> Iterator[dict[str, object]]:
    """The process with sink and servers, for as long as it is needed; where it and the brokers are."""
    where: dict[str, object] = {name: brokers[name].url for name in ("nats", "rabbitmq", "kafka")}
    command = [sys.executable, "-m", "benchmarks.overhead_peer", "serve", brokers.nats.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield where | json.loads(process.stdout.readline())
        finally:
            process.stdin.close()


def _interpreter() -> str:
    """The Python measured with, and its pace: one built without profile is up to twice as slow at everything here."""
    pace = min(timeit.repeat("len(str(i))", "i = 17", number=1_000_000, repeat=3)) * 1_000
    name = f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})"
    return f"{name} on {platform.machine()}, {pace:.0f} ns for len(str(17))"


if __name__ == "__main__":
    main()
