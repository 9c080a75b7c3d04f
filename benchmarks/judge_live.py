"""Parts 4 and 5 of `make bench-judge`: a real `hopwatch collect` under steady traffic, and one that has nothing to do.

What judging and watching cost is told beside a collector that gets the same traffic and judges nothing (`benchmarks.judge_off`).
CPU is that of the collector's process. How long a verdict takes is asked for afterwards, while the traffic goes on, because asking
costs too: from the moment a message was sent to the first answer that has both of its receivers settled.
"""

import contextlib
import http.client
import json
import re
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.ingest import Collector, collecting, wait_inserted, wait_quiet
from benchmarks.traffic import Stream

VIEWERS: Final = 5
PER_S: Final = 2_000
RECEIVERS: Final = 2
_BEAT_S: Final = 0.1
"""Between requests of a service."""
_WARM_S: Final = 5.0
_SUBSCRIBED_EVERY: Final = 150
"""Beats: as services do, every 15 s."""
_ASKED_EVERY_S: Final = 0.2
_SAMPLE_EVERY_S: Final = 1.0
_GIVEN_UP_S: Final = 60.0
_HEADERS: Final = {"Content-Type": "application/x-protobuf"}
_SETTLED: Final = re.compile(r'^hopwatch_deliveries\{[^}]*verdict="settled"[^}]*\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Live:
    """What came out, in cores of the collector."""

    ingest_cores: float
    """Taking the traffic in."""
    judge_cores: float
    """More with the judge."""
    live_cores: float
    """More with the judge and viewers."""
    verdict_p50_s: float
    verdict_p99_s: float
    exact: bool


@dataclass(frozen=True, slots=True)
class Idle:
    """CPU seconds per minute of a collector that nobody sends anything to."""

    alone: float
    watched: float


@contextmanager
def _running(module: str = "hopwatch_collector") -> Iterator[Collector]:
    directory = Path(tempfile.mkdtemp(prefix="hopwatch-bench-"))
    try:
        with collecting(directory, module) as collector:
            yield collector
    finally:
        shutil.rmtree(directory)


def measure_live(seconds: float, per_s: int) -> Live:
    """Part 4."""
    with _running("benchmarks.judge_off") as collector, _traffic(collector, per_s):
        ingest = _cores(collector, seconds / 2, "judging nothing")
    with _running() as collector:
        with _traffic(collector, per_s) as sender:
            judging = _cores(collector, seconds / 2, "judging, nobody watches")
            with _viewers(collector, VIEWERS):
                live = _cores(collector, seconds, f"judging, {VIEWERS} viewers")
                took = _verdicts(collector, sender, max(5.0, seconds / 2))
        exact = _all_settled(collector, sender)
    p50, p99 = (float(np.percentile(took, percent)) for percent in (50, 99))
    print(
        f"sent to verdict at the API, {len(took)} messages: p50 {p50:.2f} s, p99 {p99:.2f} s, most {max(took):.2f} s",
        flush=True,
    )
    return Live(ingest, judging - ingest, live - ingest, p50, p99, exact)


def measure_idle(seconds: float) -> Idle:
    """Part 5."""
    with _running() as collector:
        wait_quiet(collector)
        alone = _cores(collector, seconds, "idle")
        with _viewers(collector, 1):
            watched = _cores(collector, seconds, "idle, one live view")
    return Idle(alone * 60, watched * 60)


def _cores(collector: Collector, seconds: float, what: str) -> float:
    """Cores that the collector uses, measured after a while that it has to warm up; told now and then."""
    time.sleep(min(_WARM_S, seconds / 2))
    cpu, began = collector.cpu_s(), time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        time.sleep(min(10.0, left))
        passed = time.monotonic() - began
        print(f"{passed:6.1f} s  {what}: {(collector.cpu_s() - cpu) / passed:.3f} cores", flush=True)
    return (collector.cpu_s() - cpu) / (time.monotonic() - began)


@dataclass(slots=True)
class _Sender:
    """Sends as three services would: one publishes, two tell a beat later that they have processed."""

    collector: Collector
    per_s: int
    messages: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    trouble: str = ""
    _latest: tuple[str, float] = ("", 0.0)

    def run(self) -> None:
        """Until it is over; what was sent has been received by then."""
        connection = http.client.HTTPConnection("127.0.0.1", self.collector.otlp_http, timeout=60)
        stream, beat, waiting = Stream(max(1, round(self.per_s * _BEAT_S))), 0, None
        began = time.monotonic()
        try:
            while not self.over.is_set() or waiting is not None:
                if beat % _SUBSCRIBED_EVERY == 0:
                    self._post(connection, stream.subscribed(time.time_ns()))
                if waiting is not None:
                    for body in stream.received(waiting, time.time_ns()):
                        self._post(connection, body)
                waiting = None if self.over.is_set() else stream.sent(time.time_ns())
                if waiting is not None:
                    self._post(connection, waiting.data)
                    self.messages += len(waiting.messages)
                    self._latest = waiting.message_id, waiting.at_ns / 1e9
                beat += 1
                time.sleep(max(0.0, began + beat * _BEAT_S - time.monotonic()))
        except OSError as error:
            self.trouble = str(error)
        finally:
            connection.close()

    def latest(self) -> tuple[str, float]:
        """The id of the message sent last, and when that was (s since 1970)."""
        return self._latest

    def _post(self, connection: http.client.HTTPConnection, body: bytes) -> None:
        while True:
            connection.request("POST", "/v1/traces", body, _HEADERS)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 200:
                return
            if answer.status != 503:
                raise OSError(f"refused: {answer.status} {text!r}")
            time.sleep(0.1)


@contextmanager
def _traffic(collector: Collector, per_s: int) -> Iterator[_Sender]:
    sender = _Sender(collector, per_s)
    thread = threading.Thread(target=sender.run, name="sender")
    began = time.monotonic()
    thread.start()
    try:
        yield sender
    finally:
        took = time.monotonic() - began
        sender.over.set()
        thread.join()
        print(f"{sender.messages / took:,.0f} messages per second were sent {sender.trouble}", flush=True)


@contextmanager
def _viewers(collector: Collector, count: int) -> Iterator[None]:
    over = threading.Event()
    snapshots = [0] * count
    threads = [
        threading.Thread(target=_view, args=(collector, over, snapshots, number), name=f"viewer-{number}")
        for number in range(count)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
        rate = min(snapshots) / (time.monotonic() - began)
        print(f"each of {count} viewers saw {rate:.2f} snapshots per second", flush=True)


def _view(collector: Collector, over: threading.Event, snapshots: list[int], number: int) -> None:
    """Watch the live view as it is by default."""
    request = urllib.request.urlopen(f"http://{collector.api}/api/v1/live", timeout=60)
    with contextlib.closing(request) as answer:
        while not over.is_set():
            if answer.readline() == b"event: snapshot\n":
                snapshots[number] += 1


def _verdicts(collector: Collector, sender: _Sender, seconds: float) -> list[float]:
    """From sent to both settled, of some messages."""
    took: list[float] = []
    threads: list[threading.Thread] = []
    cpu, began = collector.cpu_s(), time.monotonic()
    until = began + seconds
    while time.monotonic() < until:
        message, sent = sender.latest()
        threads.append(threading.Thread(target=_await_verdict, args=(collector, message, sent, took)))
        threads[-1].start()
        time.sleep(_SAMPLE_EVERY_S)
    for thread in threads:
        thread.join()
    passed = time.monotonic() - began
    print(
        f"{passed:6.1f} s  asking for verdicts besides: {(collector.cpu_s() - cpu) / passed:.3f} cores",
        flush=True,
    )
    return took


def _await_verdict(collector: Collector, message: str, sent: float, took: list[float]) -> None:
    while time.time() < sent + _GIVEN_UP_S:
        time.sleep(_ASKED_EVERY_S)
        with contextlib.suppress(urllib.error.HTTPError):  # it is not known yet
            found = collector.get(f"/api/v1/messages/{message}")
            if json.dumps(found["deliveries"]).count('"verdict": "settled"') == RECEIVERS:
                break
    took.append(time.time() - sent)


def _all_settled(collector: Collector, sender: _Sender) -> bool:
    """Whether the metrics count every delivery of all that was sent as settled, once everything is judged."""
    wait_inserted(collector, time.monotonic())
    expected, found = RECEIVERS * sender.messages, 0
    until = time.monotonic() + _GIVEN_UP_S
    while found != expected and time.monotonic() < until:
        time.sleep(1.0)
        with urllib.request.urlopen(f"http://{collector.api}/metrics", timeout=60) as answer:
            found = int(sum(float(count) for count in _SETTLED.findall(answer.read().decode())))
    if found != expected:
        print(f"NOT EXACT: {found:,} settled deliveries counted, sent were {expected:,}", flush=True)
    return found == expected
