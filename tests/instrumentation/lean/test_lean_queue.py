"""The export queue against real sockets: whatever the collector does, recording goes on, and every span is counted."""

import gc
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from support.sink import Behaviour, Sink, answer
from support.waiting import eventually

from hopwatch.lean.provider import LeanTracerProvider
from hopwatch.lean.queue import SpanQueue
from hopwatch.lean.settings import ExportSettings
from hopwatch_demo.patience import scale_wait

RESOURCE = Resource({"service.name": "under-test"})


@contextmanager
def exporting(url: str, **settings: Any) -> Iterator[tuple[LeanTracerProvider, SpanQueue]]:
    """A provider whose spans go to `url` every 50 ms."""
    queue = SpanQueue(ExportSettings(url=f"{url}/v1/traces", **({"every_s": 0.05} | settings)), RESOURCE)
    provider = LeanTracerProvider(RESOURCE, queue)
    try:
        yield provider, queue
    finally:
        queue.shutdown(0.2)


def record(provider: LeanTracerProvider, count: int, name: str = "work") -> float:
    """Record spans; returns the longest time one took."""
    tracer = provider.get_tracer("hopwatch.test")
    longest = 0.0
    for number in range(count):
        before = time.perf_counter()
        tracer.start_span(f"{name} {number}", attributes={"number": number}).end()
        longest = max(longest, time.perf_counter() - before)
    return longest


def once(behave: Callable[[BaseHTTPRequestHandler], None]) -> Behaviour:
    """Behave so for the first request only."""

    def behaviour(handler: BaseHTTPRequestHandler, request: int) -> bool:
        if request == 0:
            behave(handler)
        return request == 0

    return behaviour


def garbage(handler: BaseHTTPRequestHandler) -> None:
    """Answer what is no HTTP."""
    handler.wfile.write(b"\x00\xff\x13\x37 this is no HTTP\r\n\r\n")
    handler.close_connection = True


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close one half of the connection before it is said how it went."""
    handler.wfile.write(b"HTTP/1.1 2")
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_WR)
    handler.close_connection = True


def stall(handler: BaseHTTPRequestHandler) -> None:
    """Say nothing until the other side has had enough."""
    handler.connection.settimeout(scale_wait(20))
    handler.connection.recv(1)
    handler.close_connection = True


TROUBLES: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
    "429": lambda handler: answer(handler, 429),
    "502": lambda handler: answer(handler, 502, b"bad gateway"),
    "503": lambda handler: answer(handler, 503),
    "504": lambda handler: answer(handler, 504),
    "garbage": garbage,
    "half-closed": hang_up,
    "stalled": stall,
}


def test_spans_go_in_few_requests_over_one_connection() -> None:
    """Ten thousand spans arrive once each, thousands per request, on a connection that is kept."""
    with Sink() as sink, exporting(sink.url) as (provider, queue):
        record(provider, 5_000)
        assert provider.force_flush(int(scale_wait(10_000)))
        record(provider, 5_000)
        assert provider.force_flush(int(scale_wait(10_000)))
        assert sink.names() == sorted(f"work {number}" for number in range(5_000) for _ in range(2))
        assert len(sink.connections) == 1
        stats = queue.stats()
        assert (stats.delivered, stats.waiting, stats.dropped) == (10_000, 0, {})


def test_what_keeps_coming_waits_for_a_full_request() -> None:
    """What follows a request goes when it fills the next, or its time has come."""
    with Sink() as sink, exporting(sink.url, every_s=30.0, request_spans=3_000) as (provider, queue):
        record(provider, 600)
        assert provider.force_flush(int(scale_wait(10_000)))
        before = len(sink.requests)
        for _ in range(4):
            record(provider, 600)
        assert queue.stats().delivered == 600
        record(provider, 1_200)
        eventually(lambda: queue.stats().delivered >= 3_600)
        assert provider.force_flush(int(scale_wait(10_000)))
        assert queue.stats().delivered == 4_200
        assert len(sink.requests) - before <= 3


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_may_pass_is_tried_again(trouble: str) -> None:
    """After a passing trouble the same spans are delivered, and nothing is lost."""
    with (
        Sink(behave=once(TROUBLES[trouble])) as sink,
        exporting(sink.url, timeout_s=scale_wait(1.5)) as (provider, queue),
    ):
        record(provider, 100)
        assert provider.force_flush(int(scale_wait(20_000)))
        assert sink.names() == sorted(f"work {number}" for number in range(100))
        assert (queue.stats().delivered, queue.stats().dropped) == (100, {})


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 501, 301])
def test_what_will_not_pass_is_counted_and_let_go(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal that would be repeated costs its spans; one line of the log says how many and why."""
    with (
        Sink(behave=once(lambda handler: answer(handler, status))) as sink,
        exporting(sink.url) as (provider, queue),
        caplog.at_level(logging.WARNING, "hopwatch"),
    ):
        record(provider, 10)
        assert provider.force_flush(int(scale_wait(10_000)))
        record(provider, 5)
        assert provider.force_flush(int(scale_wait(10_000)))
        assert (queue.stats().delivered, queue.stats().dropped) == (5, {"refused": 10})
    assert [r.message for r in caplog.records] == [
        f"spans lost: 10 refused (HTTP {status}); the application is not affected"
    ]


def test_spans_that_the_collector_rejected_are_counted() -> None:
    """A partial success says how many spans of a request were not taken."""
    rejecting = b"\x0a\x05\x08\xac\x02\x12\x00"  # partial_success { rejected_spans: 300, error_message: "" }
    with (
        Sink(behave=lambda handler, _: answer(handler, 200, rejecting) is None) as sink,
        exporting(sink.url) as (provider, queue),
    ):
        record(provider, 500)
        assert provider.force_flush(int(scale_wait(10_000)))
        assert (queue.stats().delivered, queue.stats().dropped) == (200, {"refused": 300})


def test_retry_after_is_honoured() -> None:
    """A collector that asks for a pause is left alone that long."""
    times: list[float] = []

    def behave(handler: BaseHTTPRequestHandler, request: int) -> bool:
        times.append(time.monotonic())
        if request == 0:
            answer(handler, 429, Retry_After="1")
        return request == 0

    with Sink(behave=behave) as sink, exporting(sink.url) as (provider, _):
        record(provider, 1)
        assert provider.force_flush(int(scale_wait(10_000)))
    assert times[1] - times[0] >= 1.0


@pytest.mark.parametrize("trouble", ["refused", "stalled"])
def test_a_dead_collector_costs_memory_up_to_the_bound(trouble: str) -> None:
    """Nothing blocks, what does not fit is dropped and counted exactly, and the end is not held up."""
    stalled: Behaviour = lambda handler, _: TROUBLES["stalled"](handler) is None  # noqa: E731
    with Sink(behave=stalled) as sink, socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # bound and not listening
        url = sink.url if trouble == "stalled" else f"http://127.0.0.1:{unheard.getsockname()[1]}"
        with exporting(url, queued_spans=1_000, timeout_s=5.0) as (provider, queue):
            longest = most = 0
            for _ in range(200):
                longest = max(longest, record(provider, 100))
                most = max(most, queue.stats().waiting)
            stats = eventually(queue.stats, lambda now: now.waiting + sum(now.dropped.values()) == 20_000)
            assert (stats.delivered, set(stats.dropped)) == (0, {"queue full"})
            assert max(most, stats.waiting) <= 1_000
            assert (
                longest < 2.5
            )  # whoever waited for the collector would have waited for the time limit of 5 s
            started = time.monotonic()
            provider.shutdown(500)
            assert time.monotonic() - started < 2.5
            eventually(lambda: sum(queue.stats().dropped.values()), lambda lost: lost == 20_000, within=10)


def test_the_bound_counts_bytes_too() -> None:
    """Spans that carry much may wait in smaller number."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        with exporting(url, queued_bytes=1 << 20) as (provider, queue):
            tracer = provider.get_tracer("hopwatch.test")
            for number in range(400):
                tracer.start_span("large", attributes={"body": f"{number:010d}" * 1_000}).end()
                if number % 20 == 0:
                    eventually(lambda: not queue._ended, within=10)
            stats = eventually(queue.stats, lambda now: now.waiting + sum(now.dropped.values()) == 400)
            assert stats.waiting * 10_000 <= 1 << 20
            assert stats.dropped["queue full"] >= 290


def test_threads_share_the_queue_and_every_span_is_counted() -> None:
    """Eight threads at once: delivered and lost add up to what ended, and an ended span ends once."""
    with Sink() as sink, exporting(sink.url, queued_spans=500) as (provider, queue):
        threads = [threading.Thread(target=record, args=(provider, 2_000)) for _ in range(8)]
        shared = provider.get_tracer("hopwatch.test").start_span("shared")
        enders = [threading.Thread(target=shared.end) for _ in range(8)]
        for thread in threads + enders:
            thread.start()
        for thread in threads + enders:
            thread.join()
        assert provider.force_flush(int(scale_wait(10_000)))
        stats = queue.stats()
        assert stats.delivered + stats.dropped.get("queue full", 0) == 16_001
        assert stats.delivered == sum(name != "losses" for name in sink.names())


def test_after_the_end_spans_are_counted_and_nothing_is_sent() -> None:
    """`shutdown` sends what is there; later spans are lost, and said to be."""
    with Sink() as sink, exporting(sink.url) as (provider, queue):
        record(provider, 3)
        provider.shutdown()
        assert len(sink.names()) == 3
        record(provider, 2)
        assert (queue.stats().delivered, queue.stats().dropped) == (3, {"closed": 2})
        assert provider.force_flush(int(scale_wait(10_000)))


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_requests_are_compressed_on_request(compression: str) -> None:
    """Headers of the user's own travel too."""
    with (
        Sink() as sink,
        exporting(sink.url, compression=compression, headers={"authorization": "Bearer x"}) as (provider, _),
    ):
        record(provider, 50)
        assert provider.force_flush(int(scale_wait(10_000)))
        assert len(sink.names()) == 50
        assert sink.headers[0]["content-encoding"] == compression
        assert sink.headers[0]["authorization"] == "Bearer x"
        assert sink.headers[0]["content-type"] == "application/x-protobuf"


def test_a_connection_that_was_given_up_meanwhile_costs_nothing() -> None:
    """A kept-alive connection that the collector has closed is made anew at once."""

    def behave(handler: BaseHTTPRequestHandler, request: int) -> bool:
        handler.close_connection = True
        return False

    with Sink(behave=behave) as sink, exporting(sink.url) as (provider, queue):
        for _ in range(3):
            record(provider, 1)
            assert provider.force_flush(int(scale_wait(10_000)))
        assert (len(sink.connections), queue.stats().delivered) == (3, 3)


def test_an_address_that_can_be_none_is_refused_not_retried() -> None:
    """A misspelt endpoint is counted as a refusal."""
    with exporting("ftp://nowhere") as (provider, queue):
        record(provider, 4)
        assert provider.force_flush(int(scale_wait(10_000)))
        assert queue.stats().dropped == {"refused": 4}


def test_no_thread_runs_before_the_first_span() -> None:
    """A provider alone costs nothing."""
    with Sink() as sink, exporting(sink.url) as (provider, _):
        provider.get_tracer("hopwatch.test")
        assert not [t for t in threading.enumerate() if t.name == "hopwatch-export" and t.is_alive()]
        record(provider, 1)
        assert [t for t in threading.enumerate() if t.name == "hopwatch-export"]
        assert provider.force_flush(int(scale_wait(10_000)))


def test_spans_that_end_in_finalizers_do_not_stick() -> None:
    """A span may end in the middle of the queue's own work, wherever the garbage collector strikes."""

    class Late:
        def __init__(self, provider: LeanTracerProvider) -> None:
            self.span = provider.get_tracer("hopwatch.test").start_span("late")
            self.itself = self

        def __del__(self) -> None:
            self.span.end()

    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        with exporting(url, queued_spans=100) as (provider, queue):
            before = gc.get_threshold()
            gc.set_threshold(1)
            try:
                for _ in range(300):
                    Late(provider)
                    record(provider, 5)
            finally:
                gc.set_threshold(*before)
            gc.collect()
            eventually(queue.stats, lambda now: now.waiting + sum(now.dropped.values()) == 1_800)
