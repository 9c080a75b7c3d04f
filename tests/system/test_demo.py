"""The demo as a person runs it: real processes, real brokers, faults on purpose, and a ledger that must be right."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hopwatch_demo import world
from hopwatch_demo.brokers import NAMES
from hopwatch_demo.collector import Collector
from hopwatch_demo.expect import expect
from hopwatch_demo.faults import FAULTS
from hopwatch_demo.ledger import Ledger
from hopwatch_demo.patience import scale_wait
from hopwatch_demo.supervisor import environment_without_hopwatch
from hopwatch_demo.truth import Act, Reader, Record
from hopwatch_demo.verify import compare

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

LINE = re.compile(r"demo: flows=(\d+) deliveries=(\d+) undelivered=(\d+) agreement=(\d+)/(\d+)")
DEMO = [sys.executable, "-m", "hopwatch_demo"]
REQUIRED = os.environ.get("HOPWATCH_REQUIRE_BROKERS", "")


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the demo without a terminal, to its end."""
    return subprocess.run(
        [*DEMO, *options], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def test_every_delivery_and_every_fault_is_told_as_the_services_recorded_it() -> None:
    """With all faults on all brokers there are, the ledger equals the ground truth, message by message."""
    required = ["--brokers", ",".join(NAMES)] if REQUIRED == "all" else []
    done = run("--json", "--seconds", "24", *required)
    assert done.returncode == 0, done.stderr + done.stdout
    line = LINE.search(done.stderr.splitlines()[-1])
    assert line is not None, done.stderr
    flows, deliveries, undelivered, agreed, total = map(int, line.groups())
    said = json.loads(done.stdout)
    assert agreed == total == deliveries == sum(said["verdicts"].values())
    assert flows >= 40
    assert undelivered > 0
    assert not said["differences"]
    running = [name for name in NAMES if re.search(rf"{name} (real|given)", said["brokers"])]
    assert "nats" in running
    assert not list(unstruck(said["faults"], running))


def unstruck(courses: list[dict[str, Any]], running: Iterable[str]) -> Iterator[str]:
    """Faults that did not strike, or not with their verdict, on some broker that runs."""
    found = {(course["fault"], course["broker"]): course["verdicts"] for course in courses}
    for fault in FAULTS.values():
        for broker, verdict in fault.verdicts.items():
            if broker in running and not found.get((fault.name, broker), {}).get(verdict):
                yield f"{fault.name} on {broker}: {found.get((fault.name, broker))}"


@pytest.fixture(scope="module")
def reported() -> Iterator[tuple[subprocess.CompletedProcess[str], Path]]:
    """A demo that ran without a terminal, and the data it was told to keep."""
    done = run("--brokers", "nats", "--seconds", "6", "--fault", "unroutable", "--fault", "poison", "--keep")
    kept = re.search(r"kept: (\S+)", done.stderr)
    assert kept is not None, done.stderr
    yield done, Path(kept[1])
    shutil.rmtree(kept[1])


def test_the_report_ends_with_the_closing_line(
    reported: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """Without a terminal the report shows flows, one as a tree, lag, undelivered and faults, and closes with one line."""
    done, _ = reported
    assert done.returncode == 0, done.stderr + done.stdout
    assert LINE.fullmatch(done.stdout.splitlines()[-1])
    assert len(LINE.findall(done.stdout)) == 1
    for said in ("flows", "lag", "undelivered", "returned", "dead-lettered", "faults", "nats real", "→"):
        assert said in done.stdout, said
    assert "crash" not in done.stdout


def test_a_ledger_that_contradicts_the_records_is_told(
    reported: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
) -> None:
    """One record that says otherwise than the ledger is one difference, named; a collector on kept data tells the same."""
    _, folder = reported
    records = Reader(folder / "records")
    first = min(entry.at for entry in records.entries())
    shutil.copytree(folder / "collector", tmp_path / "collector", symlinks=True)
    with Collector(tmp_path, environment_without_hopwatch(), world.DEADLINE_S) as collector:
        collector.wait_until_ready()
        with Ledger(collector.api_url) as ledger:
            rows = ledger.deliveries(first - 1, time.time())
    found = compare(expect(records.entries(), time.time(), world.DEADLINE_S), rows)
    assert found.complete, list(map(str, found.differences))
    Record(folder / "records" / "liar.jsonl", "liar").write(
        Act.RECEIVED, event="o00001.nats.bill", kind="bill", broker="nats", receiver="COMMANDS/billing"
    )
    wrong = compare(expect(records.entries(), time.time(), world.DEADLINE_S), rows)
    assert (wrong.agreed, wrong.total) == (found.total - 1, found.total)
    assert str(wrong.differences[0]).startswith(
        "o00001.nats.bill → COMMANDS/billing: truth in_flight, attempts 2"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("ending", "moment"),
    [(signal.SIGTERM, "services are ready"), (signal.SIGKILL, "services are ready"), (signal.SIGINT, "data")],
    ids=["terminated", "killed", "interrupted-at-once"],
)
def test_nothing_outlives_the_demo(ending: signal.Signals, moment: str, tmp_path: Path) -> None:
    """However and whenever the demo is ended, every process it started ends; its data goes, unless it was killed."""
    said = tmp_path / "stderr"
    with said.open("wb") as stderr:
        demo = subprocess.Popen(
            [*DEMO, "--brokers", "nats", "--seconds", "60"], stdin=subprocess.DEVNULL, stderr=stderr
        )
    folder = Path(awaited(lambda: re.search(r"data and logs: (\S+)", said.read_text()), demo)[1])
    awaited(lambda: moment in said.read_text() and processes_in(folder), demo)
    demo.send_signal(ending)
    assert demo.wait(timeout=scale_wait(60)) != 0
    awaited(lambda: not processes_in(folder))
    if ending is signal.SIGKILL:
        shutil.rmtree(folder)
    assert not folder.exists()


def awaited(condition: Any, running: subprocess.Popen[bytes] | None = None, seconds: float = 60.0) -> Any:
    """What `condition` returns once that is true; an error if the time or the process ends first."""
    until = time.monotonic() + scale_wait(seconds)
    while not (held := condition()):
        assert time.monotonic() < until
        assert running is None or running.poll() is None
        time.sleep(0.05)
    return held


def processes_in(folder: Path) -> list[int]:
    """Processes that work in `folder`: each process of the demo has a directory of its own there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "cwd").readlink()).startswith(str(folder)):
                found.append(int(process.name))
        except OSError:
            continue
    return found
