"""`hopwatch collect` with a configuration file: checked, refused, in force from its start on, and read again."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ledger_support import at, request, sent

from hopwatch_demo.patience import scale_wait

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

Write = Callable[..., Path]
EXAMPLES = Path(__file__).parents[3] / "collector" / "examples"
ANY_PORTS = ["--otlp-grpc-port", "0", "--otlp-http-port", "0", "--api-port", "0"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-X", "dev", "-m", "hopwatch_collector", *arguments]


def check(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What `--check` says."""
    return subprocess.run(
        command("--check", *arguments), capture_output=True, text=True, timeout=scale_wait(60), check=False, env={**os.environ, **environment}
    )  # fmt: skip


def test_the_example_is_what_the_readme_says(tmp_path: Path) -> None:
    """The example file and its document declare every kind of receiver; nothing is started and nothing written."""
    done = check("--config", str(EXAMPLES / "hopwatch.yaml"), "--data", str(tmp_path / "data"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "kafka shop.orders → billing  (expects in hopwatch.yaml)",
        "kafka shop.orders → analytics  (expects in hopwatch.yaml)",
        "rabbitmq events:order.# → invoices  (expects in hopwatch.yaml)",
        "nats shop.orders.> → ORDERS/billing  (expects in hopwatch.yaml)",
        "nats prices.* → pricing:prices.*  (expects in hopwatch.yaml)",
        "kafka shop.orders → mail  (operation onOrder in shop.asyncapi.yaml)",
        "rabbitmq events:invoice.* → mail-invoices  (operation onInvoice in shop.asyncapi.yaml)",
        "nats stock.* → mail:stock.*  (operation onStock in shop.asyncapi.yaml)",
        "nats stock.* → STOCK/mail  (operation onStockKept in shop.asyncapi.yaml)",
        "9 expected receivers, 3 deadlines",
    ]
    readme = (EXAMPLES.parent / "README.md").read_text("utf-8")
    assert (EXAMPLES / "hopwatch.yaml").read_text("utf-8") in readme
    assert not (tmp_path / "data").exists()


def test_programs_get_the_same_as_json() -> None:
    """Receivers and deadlines by their parts, in the spelling of the file; a part that is any is null."""
    done = check("--json", "--config", str(EXAMPLES / "hopwatch.yaml"))
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert len(told["expectations"]) == 9
    assert told["expectations"][2] == {
        "system": "rabbitmq",
        "destination": "events:order.#",
        "receiver": "invoices",
        "source": "expects in hopwatch.yaml",
    }
    assert told["deadlines"] == [
        {"system": "kafka", "destination": "shop.orders", "receiver": "analytics", "after_s": 600.0},
        {"system": None, "destination": None, "receiver": "nightly-*", "after_s": 86400.0},
        {"system": "nats", "destination": "prices.*", "receiver": None, "after_s": 0.5},
    ]
    assert (told["left_out"], told["mistakes"]) == ([], [])


def test_json_without_a_check_is_refused(tmp_path: Path) -> None:
    """A collector that starts has nothing to print; the text says what the option is for."""
    done = subprocess.run(
        command("--json", "--data", str(tmp_path / "data"), *ANY_PORTS),
        capture_output=True, text=True, timeout=scale_wait(60), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "--json goes with --check" in done.stderr


def test_documents_from_the_environment(tmp_path: Path) -> None:
    """HOPWATCH_ASYNCAPI names several as PATH does; the same receiver in two of them is one."""
    for name in ("one.yaml", "two.yaml"):
        shutil.copy(EXAMPLES / "shop.asyncapi.yaml", tmp_path / name)
    names = os.pathsep.join(str(tmp_path / name) for name in ("one.yaml", "two.yaml"))
    done = check(HOPWATCH_ASYNCAPI=names)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("4 expected receivers, 0 deadlines\n")
    assert "operation onOrder in one.yaml" in done.stdout


def test_what_a_document_does_not_say_is_said(write: Write, tmp_path: Path) -> None:
    """Exit code 1, as JSON too: it would start, and somebody who was meant is not declared."""
    text = (EXAMPLES / "shop.asyncapi.yaml").read_text("utf-8").replace("x-hopwatch-service", "x-service")
    done = check("--asyncapi", str(write(text, "shop.yaml")))
    assert done.returncode == 1
    assert (
        "left out: shop.yaml, line 36: operations.onStock: operation onStock: nothing says who receives"
        in done.stderr
    )
    assert done.stdout.endswith("3 expected receivers, 0 deadlines\n")
    as_json = check("--json", "--asyncapi", str(tmp_path / "shop.yaml"))
    told = json.loads(as_json.stdout)
    assert (as_json.returncode, as_json.stderr) == (1, done.stderr)
    assert [f"left out: {why}\n" for why in told["left_out"]] == [done.stderr]
    assert (len(told["expectations"]), told["mistakes"]) == (3, [])


def test_a_bad_file_is_refused_before_anything_starts(write: Write, tmp_path: Path) -> None:
    """Exit code 2 with line, key and what to write, checked or started; no data directory is made."""
    path = write("expects:\n  - {system: kafka, destination: orders, reciever: billing}")
    for arguments in (["--check"], ["--data", str(tmp_path / "data"), *ANY_PORTS]):
        done = subprocess.run(
            command("--config", str(path), *arguments),
            capture_output=True,
            text=True,
            timeout=scale_wait(60),
            check=False,
        )
        assert done.returncode == 2
        assert (
            "hopwatch.yaml, line 2: expects.0.reciever: unknown key; did you mean `receiver`?" in done.stderr
        )
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_every_mistake_is_one_of_a_list(write: Write) -> None:
    """As JSON, with the same exit code and words as without; nothing of a bad file counts. Bad options are mistakes too."""
    path = write(
        "expects:\n  - {system: kafka, destination: orders, reciever: billing}\ndeadlines:\n  - {after: soon}"
    )
    done = check("--json", "--config", str(path))
    told = json.loads(done.stdout)
    assert (done.returncode, told["expectations"]) == (2, [])
    assert told["mistakes"] == [
        "hopwatch.yaml, line 2: expects.0.reciever: unknown key; did you mean `receiver`?",
        "hopwatch.yaml, line 4: deadlines.0.after: 'soon' is no time: write 30 (seconds), 500ms, 90s, 5m, 2h or 1d",
    ]
    assert done.stderr == "hopwatch collect: " + "\n  ".join(told["mistakes"]) + "\n"
    address = check("--json", "--watch-nats", "nats://broker:99999")
    assert address.returncode == 2
    assert json.loads(address.stdout)["mistakes"] == ["--watch-nats is nats://user:password@host:4222"]
    several = check("--json", "--watch-nats", "a=x", "--watch-nats", "b=y", "--watch-nats", "b=z")
    assert several.returncode == 2
    assert json.loads(several.stdout)["mistakes"] == ["--watch-nats: two brokers are called b"]
    options = check("--json", "--deadline", "0", "--api-port", "70000")
    assert options.returncode == 2
    assert [one.partition(":")[0] for one in json.loads(options.stdout)["mistakes"]] == [
        "--api-port",
        "--deadline",
    ]


def test_a_start_puts_it_in_force(write: Write, tmp_path: Path) -> None:
    """A message sent to a declared receiver's destination is owed to it, within the time declared; a path may be relative."""
    write(
        "expects: [{system: nats, destination: orders.*, receiver: billing}]\ndeadlines: [{receiver: billing, after: 2h}]"
    )
    with started(tmp_path, "--config", "hopwatch.yaml") as collector:
        [one] = collector.deliveries(collector.send("orders.new"))
        collector.stop()
    assert (one["receiver"], one["declared"], one["verdict"]) == ("billing", True, "waiting")
    waited = datetime.fromisoformat(one["deadline"]) - datetime.fromisoformat(one["since"])
    assert waited.total_seconds() == 7200


class Collector:
    """A collector that has said it is ready, what it logs, and what it says of a message."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.ports = dict(word.split("=") for word in process.stdout.readline().split() if "=" in word)

    def told(self, event: str) -> dict[str, Any]:
        """The next line it logs about this; Python's own warnings are passed over."""
        assert self.process.stderr is not None
        lines = (json.loads(line) for line in self.process.stderr if line.startswith("{"))
        return next(line for line in lines if line["event"].startswith(event))

    def send(self, destination: str) -> str:
        """Tell it of a message sent and confirmed just now; returns its id."""
        now = (datetime.now(UTC) - at(0)).total_seconds()
        span = sent(destination, start=now, end=now)
        asked = urllib.request.Request(
            f"http://{self.ports['otlp-http']}/v1/traces",
            request(span),
            {"content-type": "application/x-protobuf"},
        )
        with urllib.request.urlopen(asked, timeout=scale_wait(30)) as answer:
            assert answer.status == 200
        return str(span.attributes["hopwatch.message.id"])

    def deliveries(self, *messages: str) -> list[dict[str, Any]]:
        """Everything it knows of these messages, in their order, as soon as it knows of all."""
        until = time.monotonic() + scale_wait(60)
        while True:
            with urllib.request.urlopen(
                f"http://{self.ports['api']}/api/v1/deliveries", timeout=scale_wait(30)
            ) as answer:
                told = json.load(answer)["deliveries"]
            found = [one for message in messages for one in told if one["message_id"] == message]
            if {one["message_id"] for one in found} == set(messages):
                return found
            assert time.monotonic() < until, "the message is not in the ledger"
            time.sleep(0.1)

    def current(self) -> str:
        """Its metric of whether the files are in force."""
        with urllib.request.urlopen(f"http://{self.ports['api']}/metrics", timeout=scale_wait(30)) as answer:
            lines = answer.read().decode().splitlines()
        return next(line.split()[1] for line in lines if line.startswith("hopwatch_declarations_current "))

    def stop(self) -> None:
        """Ask it to end; it ends well."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(scale_wait(60)) == 0


@contextmanager
def started(tmp_path: Path, *arguments: str, stderr: int | None = None) -> Iterator[Collector]:
    """A collector started in a directory, its data there."""
    with subprocess.Popen(
        command("--data", "data", *arguments, *ANY_PORTS), stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=tmp_path
    ) as process:  # fmt: skip
        try:
            yield Collector(process)
        finally:
            process.kill()


def test_a_hangup_rereads_the_file(write: Write, tmp_path: Path) -> None:
    """What it says then holds for messages sent from then on; a file with a mistake changes nothing, and both are told."""
    write("expects: [{system: nats, destination: orders.*, receiver: billing}]")
    with started(tmp_path, "--config", "hopwatch.yaml", stderr=subprocess.PIPE) as collector:
        assert collector.told("declared")["begun"] == 1
        write("expects: [{system: nats, destination: orders.*, reciever: reports}]")
        collector.process.send_signal(signal.SIGHUP)
        told = collector.told("not reread")
        assert told["level"] == "error"
        assert "hopwatch.yaml, line 1: expects.0.reciever: unknown key" in told["error"]
        assert collector.current() == "0.0"
        before = collector.send("orders.new")
        write(
            "expects: [{system: nats, destination: orders.*, receiver: reports}]\ndeadlines: [{receiver: reports, after: 2h}]"
        )
        collector.process.send_signal(signal.SIGHUP)
        told = collector.told("declared")
        assert (told["expectations"], told["begun"], told["ended"], told["deadlines"]) == (1, 1, 1, 1)
        assert collector.told("reread")
        assert collector.current() == "1.0"
        owed = collector.deliveries(before, collector.send("orders.new"))
        assert [one["receiver"] for one in owed] == ["billing", "reports"]


def test_a_hangup_of_its_own_terminal_ends_it(tmp_path: Path) -> None:
    """A collector that runs in a terminal ends with it, file or not, rather than go on where nobody sees it."""
    ours, its = pty.openpty()
    with started(tmp_path, stderr=its) as collector:
        os.close(its)
        os.close(ours)
        collector.process.send_signal(signal.SIGHUP)
        assert collector.process.wait(scale_wait(60)) == 0
