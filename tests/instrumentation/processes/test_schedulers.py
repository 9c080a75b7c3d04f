"""Hosts that put greenlets in the place of threads go on as before, and their spans arrive, whoever came first."""

import json
from collections.abc import Iterator

import pytest
from support.sink import Sink, run_code

PROGRAM = """
import json, time

def patch():
    if kind == "gevent":
        from gevent import monkey
        monkey.patch_all()
    else:
        import eventlet
        eventlet.monkey_patch()

if order == "patched first":
    patch()
import hopwatch
if order == "imported first":
    patch()
hopwatch.instrument(service="orders")
if order == "patched last":
    patch()

import threading
from opentelemetry import trace

tracer = trace.get_tracer("test")
beats = []

def beat():
    while True:
        beats.append(time.monotonic())
        time.sleep(0.01)

threading.Thread(target=beat, daemon=True).start()
for number in range(30):
    with tracer.start_as_current_span(f"span {number}"):
        time.sleep(0.05)
print(json.dumps({"beats": len(beats), "flushed": trace.get_tracer_provider().force_flush(10_000)}))
"""


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A running OTLP receiver."""
    with Sink() as running:
        yield running


@pytest.mark.parametrize("order", ["patched first", "imported first", "patched last"])
@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_greenlets_go_on_beside_the_export(sink: Sink, kind: str, order: str) -> None:
    """While spans end and are sent, another greenlet has its turns; all spans arrive, once each."""
    done = run_code(
        f"kind, order = {kind!r}, {order!r}\n{PROGRAM}", endpoint=sink.url, PYTHONWARNINGS="ignore"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["flushed"]
    assert told["beats"] > 30, "the other greenlet has hardly run"
    names = [span.name for _, _, span in sink.received()]
    assert sorted(names) == sorted(f"span {number}" for number in range(30))
