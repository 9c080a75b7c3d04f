"""From sent to visible on screen: real services, broker, collector and terminal view, and where the time goes."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import ceil, inf
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import clickhouse_connect

from benchmarks.ingest import Collector, collecting
from benchmarks.tui_terminal import on_terminal
from hopwatch_demo.brokers import Brokers

WARM = 10
"""Messages before those that count: the first ones find everything cold."""
UNSEEN_AFTER_S = 30.0


@dataclass(slots=True)
class Course:
    """When one message was where, in seconds since 1970."""

    sent: float
    exported: float | None = None
    """The first bytes of its span on their way to the collector."""
    inserted: float | None = None
    """Its fact came into the engine."""
    asked: float | None = None
    """The collector began the first snapshot that has it."""
    came: float | None = None
    """That snapshot was in the view's model."""
    drawn: float | None = None
    """Its line was on the terminal."""

    @property
    def took(self) -> float:
        """Seconds from sent to drawn; infinity: it never was."""
        return inf if self.drawn is None else self.drawn - self.sent


STAGES = ("sent", "exported", "inserted", "asked", "came", "drawn")


@dataclass(slots=True)
class Notes:
    """What was seen of all messages, by `order_id`; filled from several threads."""

    courses: dict[str, Course] = field(default_factory=dict)
    drawn: dict[str, float] = field(default_factory=dict)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    exports: list[float] = field(default_factory=list)
    _rest: bytes = b""

    def see(self, at: float, piece: bytes) -> None:
        """Look for orders in what the view has drawn."""
        text = self._rest + piece
        for found in re.findall(rb"order_id=([BW]\d{5})", text):
            self.drawn.setdefault(found.decode(), at)
        self._rest = text[-32:]

    def send(self, line: str) -> None:
        """Note what the sender says."""
        told = json.loads(line)
        self.courses[told["order_id"]] = Course(told["sent"])

    def snapshot(self, line: str) -> None:
        """Note what the view says."""
        self.snapshots.append(json.loads(line))

    def seen(self, name: str) -> int:
        """How many messages of a kind were drawn."""
        return sum(order.startswith(name) for order in list(self.drawn))

    def fill(self, inserted: dict[str, float]) -> None:
        """Put everything together."""
        for order, course in self.courses.items():
            course.exported = next((at for at in self.exports if at >= course.sent), None)
            course.inserted, course.drawn = inserted.get(order), self.drawn.get(order)
        for one in self.snapshots:
            for order in one["new"]:
                if order in self.courses:
                    self.courses[order].asked, self.courses[order].came = one["asked"], one["came"]


def measure(count: int, per_second: float) -> list[Course]:
    """Send so many messages and watch them; the course of each."""
    notes = Notes()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hopwatch-bench-")))
        brokers = stack.enter_context(Brokers.start(["nats"], required=["nats"]))
        with collecting(directory) as collector:
            began, cpu = time.monotonic(), collector.cpu_s()
            watch(notes, brokers.nats.url, collector, count, per_second)
            share = (collector.cpu_s() - cpu) / (time.monotonic() - began)
            took = [one["came"] - one["asked"] for one in notes.snapshots]
            print(f"the collector took {share:.0%} of a core; load {os.getloadavg()[0]:.1f}")
            print(
                f"{collector.inserts()}; {len(took)} snapshots of {sum(took) / len(took):.2f} s each",
                flush=True,
            )
        notes.fill(arrivals(directory))
    return [course for order, course in notes.courses.items() if order.startswith("B")]


def watch(notes: Notes, nats: str, collector: Collector, count: int, per_second: float) -> None:
    """Run services and view until every message is drawn, or has not been for long."""
    sink = f"http://127.0.0.1:{collector.otlp_http}"
    view = [sys.executable, "-m", "benchmarks.tui_watched", f"http://{collector.api}"]
    with ExitStack() as stack:
        watched = stack.enter_context(on_terminal(view, notes.see))
        listen(watched.stdout, notes.snapshot)
        relay = stack.enter_context(relayed(sink, notes.exports))
        receiver = stack.enter_context(service(sink, "receive", nats))
        assert receiver.stdout is not None
        receiver.stdout.readline()
        for name, number in (("W", min(WARM, count)), ("B", count)):
            sender = stack.enter_context(service(relay, "send", nats, str(number), str(per_second), name))
            listen(sender.stdout, notes.send)
            until_seen(notes, sender, name, number)


def until_seen(notes: Notes, sender: subprocess.Popen[str], name: str, count: int) -> None:
    """Wait until all are drawn, but not long after the last was sent."""
    printed = began = time.monotonic()
    ended: float | None = None
    while notes.seen(name) < count:
        time.sleep(0.05)
        now = time.monotonic()
        if ended is None and sender.poll() is not None:
            ended = now
        if ended is not None and now - ended > UNSEEN_AFTER_S:
            return
        if now - printed > 2:
            printed = now
            sent = sum(order.startswith(name) for order in list(notes.courses))
            print(
                f"{now - began:6.1f} s  {sent} of {count} sent, {notes.seen(name)} on the screen", flush=True
            )


@contextmanager
def service(sink: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """One of the services, exporting to `sink`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "HOPWATCH_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.tui_services", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env | {"OTEL_EXPORTER_OTLP_ENDPOINT": sink},
        text=True,
    )
    assert process.stdin is not None
    try:
        yield process
        process.stdin.close()
        process.wait(20)
    finally:
        process.kill()
        process.wait()


def listen(lines: IO[str] | None, heard: Callable[[str], None]) -> None:
    """Hand over each line, from a thread of its own, until there are no more."""

    def run() -> None:
        for line in lines or ():
            heard(line)

    threading.Thread(target=run, daemon=True).start()


@contextmanager
def relayed(sink: str, exports: list[float]) -> Iterator[str]:
    """An address that leads to `sink`, and notes when something is sent there."""
    to = urlsplit(sink)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    ours, _ = server.accept()
                except OSError:
                    return
                theirs = socket.create_connection((to.hostname or "", to.port or 0))
                threading.Thread(target=_pass_on, args=(ours, theirs, exports), daemon=True).start()
                threading.Thread(target=_pass_on, args=(theirs, ours, []), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def _pass_on(source: socket.socket, target: socket.socket, times: list[float]) -> None:
    with source, target:
        try:
            while piece := source.recv(65_536):
                times.append(time.time())
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


def arrivals(directory: Path) -> dict[str, float]:
    """When the fact of each message's sending came into the engine, by `order_id`; the collector has ended."""
    sql = (
        "SELECT key.2 AS order_id, min(toUnixTimestamp64Milli(seen_at)) / 1000 FROM ledger "
        "ARRAY JOIN keys AS key WHERE key.1 = 'order_id' GROUP BY order_id"
    )
    with clickhouse_connect.get_client(dsn=f"chdb:///{directory / 'engine'}", database="hopwatch") as client:
        return {str(order): float(at) for order, at in client.query(sql).result_rows}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of the values does not exceed."""
    return sorted(values)[max(0, ceil(len(values) * share) - 1)]
