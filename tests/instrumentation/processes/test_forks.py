"""Spans of every process of a service arrive, once each, however the processes come about and end."""

import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.process import HOPWATCH, Process
from support.sink import Sink, attribute, clean_environment, run_code
from support.waiting import eventually

from hopwatch_demo.patience import scale_wait

APPLICATION = """
import os
from fastapi import FastAPI

app = FastAPI()


@app.get("/who")
async def who() -> int:
    return os.getpid()
"""

BEGIN = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 dislikes forks beside threads; servers fork anyway
import hopwatch
hopwatch.instrument(service="orders")
from opentelemetry import trace
tracer = trace.get_tracer("hopwatch.test")
"""


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A running OTLP receiver."""
    with Sink() as running:
        yield running


def processes(sink: Sink) -> dict[str, tuple[object, object]]:
    """Return which process (instance id, pid) each span came from."""
    return {
        span.name: (attribute(resource, "service.instance.id"), attribute(resource, "process.pid"))
        for resource, _, span in sink.received()
    }


def test_a_forked_child_exports_what_is_its_own(sink: Sink) -> None:
    """Parent and child send their own spans, once each, as two instances; what waited in the parent stays there."""
    code = (
        BEGIN
        + """
with tracer.start_as_current_span("before"): pass
child = os.fork()
with tracer.start_as_current_span("in child" if child == 0 else "in parent"): pass
if child:
    os.waitpid(child, 0)
"""
    )
    done = run_code(code, endpoint=sink.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert sink.names() == ["before", "in child", "in parent"]
    seen = processes(sink)
    assert seen["before"] == seen["in parent"]
    assert not set(seen["in child"]) & set(seen["in parent"])


def test_a_fork_in_the_middle_of_export_is_survived(sink: Sink) -> None:
    """Children forked while the export thread is at work are not stuck, and nothing is sent twice."""
    code = (
        BEGIN
        + """
for _ in range(20):
    for number in range(600):
        tracer.start_span("parent").end()
    child = os.fork()
    if child == 0:
        tracer.start_span("child").end()
        sys.exit()
    os.waitpid(child, 0)
"""
    )
    done = run_code(code, endpoint=sink.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert Counter(sink.names()) == {"parent": 12_000, "child": 20}


def test_an_instance_named_by_the_environment_keeps_its_name(sink: Sink) -> None:
    """What OTEL_RESOURCE_ATTRIBUTES says of the process holds for its children too."""
    code = (
        BEGIN
        + """
child = os.fork()
tracer.start_span("in child" if child == 0 else "in parent").end()
if child:
    os.waitpid(child, 0)
"""
    )
    run_code(code, endpoint=sink.url, OTEL_RESOURCE_ATTRIBUTES="service.instance.id=one")
    assert {name: instance for name, (instance, _) in processes(sink).items()} == {
        "in child": "one",
        "in parent": "one",
    }


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_send_their_spans(sink: Sink, method: str, tmp_path: Path) -> None:
    """These children skip what is registered at exit; their spans arrive all the same."""
    program = tmp_path / "program.py"
    program.write_text(
        BEGIN
        + f"""
import multiprocessing
def work():
    tracer.start_span("in child").end()
if __name__ == "__main__":
    child = multiprocessing.get_context({method!r}).Process(target=work)
    child.start()
    child.join()
    tracer.start_span("in parent").end()
"""
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        env=clean_environment(OTEL_EXPORTER_OTLP_ENDPOINT=sink.url),
        capture_output=True,
        text=True,
        timeout=scale_wait(60),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sink.names() == ["in child", "in parent"]


@contextmanager
def serving(sink: Sink, folder: Path, *command: str) -> Iterator[tuple[str, Process]]:
    """A web server of two workers under `hopwatch run`."""
    (folder / "application.py").write_text(APPLICATION)
    (folder / "plain.py").write_text(PLAIN)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [part.replace("PORT", str(port)) for part in command]
    program = (UWSGI,) if arguments.pop(0) == "uwsgi" else (sys.executable, "-m", command[0])
    before = (HOPWATCH, "run", "--service", "shop", "--", *program)
    env = clean_environment(OTEL_EXPORTER_OTLP_ENDPOINT=sink.url)
    with Process([*before, *arguments], env=env, cwd=folder) as server:
        yield f"http://127.0.0.1:{port}/who", server


UWSGI = str(Path(sys.executable).with_name("pyuwsgi"))

SERVERS = {
    "uvicorn": ("uvicorn", "--workers", "2", "--port", "PORT", "application:app"),
    "uvicorn alone": ("uvicorn", "--port", "PORT", "application:app"),
    "gunicorn": (
        "gunicorn",
        "-w",
        "2",
        "-k",
        "uvicorn.workers.UvicornWorker",
        "-b",
        "127.0.0.1:PORT",
        "application:app",
    ),
    "gunicorn's own worker": ("gunicorn", "-w", "2", "-k", "asgi", "-b", "127.0.0.1:PORT", "application:app"),
    "gunicorn with greenlets": ("gunicorn", "-w", "2", "-k", "gevent", "-b", "127.0.0.1:PORT", "plain:app"),
    "uwsgi": (
        *("uwsgi", "--master", "--processes", "2", "--enable-threads", "--die-on-term", "-H", sys.prefix),
        *("--http", "127.0.0.1:PORT", "--wsgi-file", "plain.py"),
    ),
    "gunicorn, preloaded": (
        *("gunicorn", "--preload", "-w", "2", "-k", "uvicorn.workers.UvicornWorker"),
        *("-b", "127.0.0.1:PORT", "application:app"),
    ),
}


PLAIN = """
import os
from opentelemetry import trace

tracer = trace.get_tracer("shop")


def app(environ, start_response):
    with tracer.start_as_current_span("GET /who"):
        start_response("200 OK", [("content-type", "text/plain")])
        return [str(os.getpid()).encode()]


application = app
"""
"""What no instrumentation of ours sees: it begins its own spans."""


@pytest.mark.parametrize("name", SERVERS)
def test_every_worker_of_a_server_sends_its_spans(sink: Sink, name: str, tmp_path: Path) -> None:
    """Requests answered by each worker arrive as that worker's, the last ones before SIGTERM included."""
    answered: Counter[int] = Counter()
    with serving(sink, tmp_path, *SERVERS[name]) as (url, server), ThreadPoolExecutor(8) as callers:

        def ask(_: object = None) -> int | None:
            try:
                return int(httpx.get(url, timeout=scale_wait(20), trust_env=False).text)
            except httpx.TransportError:
                assert server.running, server
                return None

        def ask_many() -> Counter[int]:
            answered.update(pid for pid in callers.map(ask, range(16)) if pid is not None)
            return answered

        workers = 1 if name == "uvicorn alone" else 2
        eventually(ask_many, lambda seen: len(seen) == workers, within=60)
        ask_many()
        server.send(signal.SIGTERM)
        server.wait()
    served = Counter(
        attribute(resource, "process.pid") for resource, _, span in sink.received() if span.name == "GET /who"
    )
    assert served == answered, server
