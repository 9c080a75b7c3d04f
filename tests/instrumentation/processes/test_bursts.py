"""A service sends more than anyone can take, whatever the collector does: its event loop does not notice."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest
from support.sink import Behaviour, Sink, answer, run_code

MESSAGES = 50_000

BURST = """
import asyncio, contextlib, glob, json, time
import hopwatch
hopwatch.instrument(service="orders", only=["nats"])
from opentelemetry import trace
tracer = trace.get_tracer("hopwatch.test")

def without_a_cpu():
    # Seconds for which this process's threads were ready to run while others had the CPUs: that is not ours to answer for.
    waited = 0
    for task in glob.glob("/proc/self/task/*/schedstat"):
        with contextlib.suppress(OSError), open(task) as told:  # a thread may end just then
            waited += int(told.read().split()[1])
    return waited / 1e9

async def main():
    longest, seen, done = 0.0, time.monotonic(), 0
    began = asked = seen
    idle = without_a_cpu()
    while done < MESSAGES:
        while done < min(MESSAGES, (time.monotonic() - began) * 50_000):
            for _ in range(10):  # messages of two spans each, with the loop free to look around in between
                with tracer.start_as_current_span("send", attributes={"number": done}):
                    tracer.start_span("receive").end()
                done += 1
            await asyncio.sleep(0)
            now = time.monotonic()
            if now - asked > 0.02:  # seldom: the answer costs as much as a hundred messages
                before, idle, asked = idle, without_a_cpu(), now
                longest = max(longest, now - seen - (idle - before))
            seen = now
        await asyncio.sleep(0)
        seen = time.monotonic()
    return longest

longest = asyncio.run(main())
trace.get_tracer_provider().shutdown(3_000)
stats = hopwatch.stats()
print(json.dumps([longest, stats.delivered, stats.waiting, sum(stats.dropped.values())]))
"""

never = threading.Event()


def slow(handler: BaseHTTPRequestHandler) -> bool:
    """Take a quarter of a second for each request."""
    never.wait(0.25)
    return False


def unavailable(handler: BaseHTTPRequestHandler) -> bool:
    """Take nothing."""
    answer(handler, 503)
    return True


def moody(handler: BaseHTTPRequestHandler) -> bool:
    """Cut the connection in the middle of the request's answer, always."""
    handler.wfile.write(b"HTTP/1.1")
    handler.close_connection = True
    return True


COLLECTORS: dict[str, Callable[[BaseHTTPRequestHandler], bool]] = {
    "well": lambda handler: False,
    "slow": slow,
    "unavailable": unavailable,
    "moody": moody,
}


@pytest.mark.parametrize("collector", COLLECTORS)
def test_a_burst_blocks_nothing_and_every_span_is_accounted_for(collector: str) -> None:
    """100,000 spans in a second: the loop is never held up, and delivered and lost add up to what was recorded."""
    behave: Behaviour = lambda handler, _: COLLECTORS[collector](handler)  # noqa: E731 — one per case
    with Sink(behave=behave) as sink:
        done = run_code(BURST.replace("MESSAGES", str(MESSAGES)), endpoint=sink.url)
        assert done.returncode == 0, done.stderr
        longest, delivered, waiting, lost = json.loads(done.stdout)
        assert delivered + lost == 2 * MESSAGES
        assert waiting == 0
        received = sum(1 for _ in sink.received())
        assert received >= delivered  # a request under way at the very end may have arrived all the same
        assert (delivered > 0) == (collector in ("well", "slow"))
        assert longest < 0.5
        assert len(done.stderr.splitlines()) <= 4, done.stderr
