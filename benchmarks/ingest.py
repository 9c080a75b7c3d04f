"""`make bench-ingest`: OTLP/HTTP in to queryable and merged, through a real `hopwatch collect`.

Counts the collector's CPU (all threads, from /proc; neither the sender's nor what looking messages up afterwards
takes is in it), the time from the first request to the last span queryable, and what the engine's active parts take on disk once its merges have come to rest.
"""

import argparse
import http.client
import json
import os
import platform
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import clickhouse_connect

from benchmarks.traffic import Body, Shape, bodies

_SENDERS = 4
_READY = re.compile(r"ready: otlp-grpc=\S+ otlp-http=\S+:(\d+) api=(\S+:\d+)")
_TICKS = os.sysconf("SC_CLK_TCK")
_QUIET_CORES = 0.15
"""Below this over three seconds, the engine's merges have come to rest (its upkeep and the health checks go on)."""


@dataclass(frozen=True, slots=True)
class Collector:
    """A running collector."""

    pid: int
    otlp_http: int
    api: str

    def cpu_s(self) -> float:
        """CPU seconds used so far by all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak_mib(self) -> float:
        """The most memory it has held at once, in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0]) / 1024

    def inserts(self) -> str:
        """How many inserts there were and how long they took, in words."""
        with urllib.request.urlopen(f"http://{self.api}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        count, total = (
            float(re.findall(rf"^hopwatch_engine_insert_seconds_{part} (\S+)$", text, re.MULTILINE)[0])
            for part in ("count", "sum")
        )
        return f"{count:.0f} inserts in {total:.1f} s"

    def get(self, path: str) -> dict[str, object]:
        with urllib.request.urlopen(f"http://{self.api}{path}", timeout=60) as answer:
            found: dict[str, object] = json.load(answer)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--per-request", type=int, default=512)
    parser.add_argument(
        "--minted",
        action="store_true",
        help="message ids begin with the moment of sending, as hopwatch mints them",
    )
    parser.add_argument("--keep", action="store_true", help="leave the data directory behind")
    options = parser.parse_args()
    print(f"python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="hopwatch-bench-"))
    try:
        run(directory, options.spans, options.per_request, Shape(minted=options.minted))
    finally:
        if options.keep:
            print(f"data kept in {directory}")
        else:
            shutil.rmtree(directory)


def run(directory: Path, spans: int, per_request: int, shape: Shape) -> None:
    """One whole measurement; ends the program with 1 where the count is not exact."""
    requests = list(bodies(spans, per_request, time.time_ns(), shape=shape))
    size = sum(len(body.data) for body in requests)
    total = sum(body.spans for body in requests)
    print(
        f"{total:,} spans in {len(requests):,} requests, {size / total:.0f} bytes each on the wire",
        flush=True,
    )
    with collecting(directory) as collector:
        print(f"engine {collector.get('/healthz')['engine']}", flush=True)
        cpu_before, began = collector.cpu_s(), time.monotonic()
        send(collector, requests, total, began)
        acknowledged = time.monotonic() - began
        wait_inserted(collector, began)
        queryable, cpu_queryable = time.monotonic() - began, collector.cpu_s() - cpu_before
        print(
            f"acknowledged after {acknowledged:.1f} s, queryable after {queryable:.1f} s, CPU {cpu_queryable:.1f} s"
        )
        wait_quiet(collector)
        cpu = collector.cpu_s() - cpu_before
        print(
            f"merges at rest, CPU {cpu:.1f} s; {collector.inserts()}; at most {collector.peak_mib():.0f} MiB",
            flush=True,
        )
        look_up(collector, requests)
    count, disk = measure(directory)
    if count != total:
        print(f"NOT EXACT: {total} spans sent, {count} stored")
        sys.exit(1)
    print(
        f"spans_per_cpu_s={total / cpu:.0f} spans_per_s={total / queryable:.0f} bytes_per_span={disk / total:.1f}"
    )


@contextmanager
def collecting(directory: Path, module: str = "hopwatch_collector") -> Iterator[Collector]:
    """A collector of its own on free ports; stopped in order at the end."""
    command = [sys.executable, "-m", module, "--data", str(directory)]
    command += ["--otlp-grpc-port", "0", "--otlp-http-port", "0", "--api-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = _READY.search(process.stdout.readline())
        if ready is None:
            sys.exit("the collector did not start")
        yield Collector(process.pid, int(ready[1]), ready[2])
        process.terminate()
        if process.wait(120) != 0:
            sys.exit("the collector did not stop in order")
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def send(collector: Collector, requests: list[Body], total: int, began: float) -> None:
    """Posts all requests over a few connections, as fast as they are acknowledged."""
    waiting: queue.SimpleQueue[Body] = queue.SimpleQueue()
    for body in requests:
        waiting.put(body)
    threads = [threading.Thread(target=_sender, args=(collector, waiting)) for _ in range(_SENDERS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        threads[0].join(2.0)
        left = waiting.qsize()
        done = total * (len(requests) - left) // len(requests)
        print(f"{time.monotonic() - began:6.1f} s  {done:>10,} spans acknowledged", flush=True)
        for thread in threads[1:]:
            thread.join(0 if left else None)
    if not waiting.empty():
        sys.exit("the senders gave up")


def _sender(collector: Collector, waiting: "queue.SimpleQueue[Body]") -> None:
    connection = http.client.HTTPConnection("127.0.0.1", collector.otlp_http, timeout=60)
    headers = {"Content-Type": "application/x-protobuf"}
    while True:
        try:
            body = waiting.get_nowait()
        except queue.Empty:
            connection.close()
            return
        while True:
            connection.request("POST", "/v1/traces", body.data, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 200 and not text:
                break
            if answer.status != 503:
                waiting.put(body)
                raise SystemExit(f"refused: {answer.status} {text!r}")
            time.sleep(float(answer.headers.get("Retry-After", "1")))


def wait_inserted(collector: Collector, began: float) -> None:
    """Waits until nothing acknowledged is outside the engine: what is in it, queries see."""
    printed = time.monotonic()
    while backlog := collector.get("/healthz")["journal_backlog_bytes"]:
        if time.monotonic() - printed > 2:
            printed = time.monotonic()
            print(
                f"{printed - began:6.1f} s  {int(str(backlog)) >> 20:>8,} MiB still to be inserted",
                flush=True,
            )
        time.sleep(0.1)


def look_up(collector: Collector, requests: list[Body]) -> None:
    """Asks for some of the messages by their ids; an answer other than found ends the program."""
    for body in requests[:: max(1, len(requests) // 5)] + requests[-1:]:
        collector.get(f"/api/v1/messages/{body.message_id}")


def wait_quiet(collector: Collector) -> None:
    """Waits until the collector has been nearly idle for three seconds."""
    last = collector.cpu_s()
    while True:
        time.sleep(3)
        now = collector.cpu_s()
        print(f"          {(now - last) / 3:.2f} cores busy", flush=True)
        if now - last < 3 * _QUIET_CORES:
            return
        last = now


def measure(directory: Path, database: str = "hopwatch", spans_in: str = "spans") -> tuple[int, int]:
    """Spans stored, and bytes of all active parts of all tables."""
    parts = f"SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = '{database}'"
    tables = (
        f"SELECT table, sum(rows), sum(bytes_on_disk) FROM system.parts WHERE active AND database = '{database}' "
        "GROUP BY table ORDER BY 3 DESC"
    )
    with clickhouse_connect.get_client(dsn=f"chdb:///{directory / 'engine'}", database=database) as client:
        count = client.query(f"SELECT count() FROM {spans_in}").result_rows[0][0]
        disk = client.query(parts).result_rows[0][0]
        for table, rows, size in client.query(tables).result_rows:
            print(f"{table:>24} {rows:>12,} rows {size:>14,} bytes")
    return count, disk


if __name__ == "__main__":
    main()
