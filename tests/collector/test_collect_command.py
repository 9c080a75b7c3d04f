"""`hopwatch collect` as a process: how it starts, what it refuses, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ledger_support import sent, take
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from hopwatch_collector.engine import Store
from hopwatch_demo.patience import scale_wait

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

ANY_PORTS = ["--otlp-grpc-port", "0", "--otlp-http-port", "0", "--api-port", "0"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-X", "dev", "-m", "hopwatch_collector", *arguments]


def refused(*arguments: str) -> tuple[int, str]:
    """Exit code and words of a start that fails."""
    ended = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=scale_wait(120), check=False
    )
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


@contextmanager
def running(data: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A collector that has said it is ready, and where."""
    with subprocess.Popen(
        command("--data", str(data), *ANY_PORTS, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("hopwatch collector ready: otlp-grpc=127.0.0.1:")
            yield process, dict(word.split("=") for word in line.split() if "=" in word)
        finally:
            process.kill()


def test_help_teaches() -> None:
    """The help says what it is for, where the environment sets what, and what the exit codes mean."""
    environment = {**os.environ, "COLUMNS": "120", "TERM": "dumb"}
    shown = subprocess.run(
        command("--help"), capture_output=True, text=True, check=True, timeout=scale_wait(60), env=environment
    )
    for words in ("hopwatch live", "HOPWATCH_READ_TOKEN", "Exit codes", "OTEL_EXPORTER_OTLP_HEADERS"):
        assert words in shown.stdout


def test_beyond_loopback_without_tokens_is_refused(tmp_path: Path) -> None:
    """Exit code 2, and the text says what to do instead."""
    code, text = refused("--data", str(tmp_path), "--listen", "0.0.0.0", *ANY_PORTS)
    assert code == 2
    assert "--ingest-token and --read-token" in text
    assert "--allow-insecure" in text


def test_an_impossible_option_is_named(tmp_path: Path) -> None:
    """Exit code 2 and the option's name."""
    code, text = refused("--data", str(tmp_path), "--api-port", "70000")
    assert code == 2
    assert "--api-port" in text


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """Exit code 1 and the port, not a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, text = refused("--data", str(tmp_path), *ANY_PORTS[:4], "--api-port", str(port))
    assert code == 1
    assert f"port {port} for the API" in text
    assert "Traceback" not in text


def test_one_collector_per_data_directory(tmp_path: Path) -> None:
    """A second one on the same directory is refused while the first goes on; the first ends with 0 on SIGINT."""
    with running(tmp_path) as (first, _):
        code, text = refused("--data", str(tmp_path), *ANY_PORTS)
        assert code == 1
        assert "another collector uses" in text
        first.send_signal(signal.SIGINT)
        assert first.wait(scale_wait(60)) == 0


def test_it_leaves_nothing_where_it_was_started(tmp_path: Path) -> None:
    """A relative data directory is found, taking spans works, and the working directory holds nothing else afterwards."""
    span = Span(
        trace_id=os.urandom(16), span_id=os.urandom(8), name="one", start_time_unix_nano=time.time_ns()
    )
    body = ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])]
    ).SerializeToString()
    with subprocess.Popen(
        command("--data", "data", *ANY_PORTS), stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        try:
            assert process.stdout is not None
            ready = dict(word.split("=") for word in process.stdout.readline().split() if "=" in word)
            asked = urllib.request.Request(
                f"http://{ready['otlp-http']}/v1/traces", body, {"content-type": "application/x-protobuf"}
            )
            with urllib.request.urlopen(asked, timeout=scale_wait(30)) as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(scale_wait(60)) == 0
        finally:
            process.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert (tmp_path / "data" / "__cache__").is_dir(), "the engine took the span, and keeps its schemas here"


def test_old_days_wait_for_consent(tmp_path: Path) -> None:
    """Back after a week, with more old days than may go at once, it keeps them, and log and metrics say so; --drop-days lets them go."""
    store = Store.open(str(tmp_path / "engine"))
    for number in range(7):
        take(store, sent(start=-86_400.0 * (20 + number)))
    store.close()
    for options, held in (((), 7), (("--drop-days", "7"), 0)):
        with running(tmp_path, *options) as (process, ready):
            wanted = f"hopwatch_retention_held_days {held}.0"
            last_word = "old days kept" if held else "old days dropped"
            assert process.stderr is not None
            line = next(line for line in process.stderr if last_word in line)
            assert len(json.loads(line)["days"]) == 7
            with urllib.request.urlopen(f"http://{ready['api']}/metrics", timeout=scale_wait(30)) as answer:
                assert wanted in answer.read().decode().splitlines()


def test_several_brokers_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each broker of a kind is told of under its name, be it asked or not; the environment may name several."""
    monkeypatch.setenv("HOPWATCH_WATCH_KAFKA", "orders=127.0.0.1:1, 127.0.0.1:2\naudit=127.0.0.1:3")
    with running(tmp_path, "--watch-nats", "a=127.0.0.1:1", "--watch-nats", "nats://127.0.0.1:2") as (
        _,
        ready,
    ):
        with urllib.request.urlopen(f"http://{ready['api']}/healthz", timeout=30) as answer:
            found = [(one["system"], one["broker"]) for one in json.load(answer)["witnesses"]]
        assert found == [("kafka", "orders"), ("kafka", "audit"), ("nats", "a"), ("nats", "127.0.0.1:2")]
        lines = {
            f'hopwatch_witness_up{{broker="{broker}",system="{system}"}} 0.0' for system, broker in found
        }
        until = time.monotonic() + 60
        shown: set[str] = set()
        while not lines <= shown and time.monotonic() < until:
            with urllib.request.urlopen(f"http://{ready['api']}/metrics", timeout=30) as answer:
                shown = set(answer.read().decode().splitlines())
            time.sleep(0.2)
        assert lines <= shown


def test_a_data_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    """Exit code 1 and the path."""
    (tmp_path / "file").write_text("in the way")
    code, text = refused("--data", str(tmp_path / "file" / "below"), *ANY_PORTS)
    assert code == 1
    assert "cannot use the data directory" in text


def test_too_few_open_files_are_named(tmp_path: Path) -> None:
    """Exit code 1, how many there are, how many are needed, and where that is set; no traceback."""
    ended = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -n 64 && exec "$@"', "sh", *command("--data", str(tmp_path), *ANY_PORTS)],
        capture_output=True,
        text=True,
        timeout=scale_wait(120),
        check=False,
    )
    assert ended.returncode == 1
    assert "may have 64 files open" in ended.stderr
    assert "ulimit -n" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_directory_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """Exit code 1 and both versions' migrations: tables this version does not know are not touched."""
    store = Store.open(str(tmp_path / "engine"))
    store._writer.command("INSERT INTO migrations (number, name) VALUES (999, 'later')")
    store.close()
    code, text = refused("--data", str(tmp_path), *ANY_PORTS)
    assert code == 1
    assert "newer version of hopwatch (migration 999" in text
    assert "Traceback" not in text


def test_temporary_files_are_its_own(tmp_path: Path) -> None:
    """Spans that a killed collector had in temporary files lie in the data directory, and are gone after the next start."""
    left = tmp_path / "temporary" / "batch"
    left.parent.mkdir()
    left.write_bytes(b"spans")
    with running(tmp_path):
        assert left.parent.stat().st_mode & 0o777 == 0o700
        assert not left.exists()
