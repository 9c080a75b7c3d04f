"""Losses of the exporter, told to whoever takes spans next: counts that no repetition and no lost report falsifies."""

import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest
from opentelemetry.sdk.resources import Resource
from support.sink import Sink, answer, attribute
from support.waiting import eventually

from hopwatch.lean import lossreport
from hopwatch.lean.provider import LeanTracerProvider
from hopwatch.lean.queue import SpanQueue
from hopwatch.lean.settings import ExportSettings

RESOURCE = Resource({"service.name": "under-test"})
Behaviour = Callable[[BaseHTTPRequestHandler, int], bool]


class Exporting:
    """A provider that holds at most a hundred spans and exports every 20 ms."""

    def __init__(self, sink: Sink) -> None:
        settings = ExportSettings(url=f"{sink.url}/v1/traces", every_s=0.02, queued_spans=100)
        self.queue = SpanQueue(settings, RESOURCE)
        self.provider = LeanTracerProvider(RESOURCE, self.queue)

    def work(self, count: int = 1) -> None:
        for _ in range(count):
            self.provider.get_tracer("hopwatch.test").start_span("work").end()

    @property
    def lost(self) -> int:
        return sum(self.queue.stats().dropped.values())


def told(sink: Sink, reason: str = "refused") -> list[int]:
    """The counts of the reports that arrived, in their order."""
    return [
        int(attribute(span, f"hopwatch.lost.{reason}") or 0)
        for _, span in sink.spans()
        if attribute(span, "hopwatch.report") == "losses"
    ]


def refusing(*numbers: int) -> Behaviour:
    """Refuse these requests for good."""

    def behave(handler: BaseHTTPRequestHandler, number: int) -> bool:
        if number in numbers:
            answer(handler, 400)
        return number in numbers

    return behave


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports go on at once."""
    monkeypatch.setattr(lossreport, "_EVERY_S", 0.0)
    monkeypatch.setattr(lossreport, "_REFUSED_PAUSE_S", 0.0)


def test_losses_are_told_without_further_spans() -> None:
    """Nothing need be recorded for the collector to hear of a loss, and it is told of it once."""
    with Sink(behave=refusing(0)) as sink:
        exporting = Exporting(sink)
        began = time.time_ns()
        exporting.work(3)
        eventually(lambda: told(sink), lambda counts: counts == [3])
        report = next(span for _, span in sink.spans())
        assert began <= report.start_time_unix_nano <= report.end_time_unix_nano <= time.time_ns()
        exporting.work()
        eventually(sink.names, lambda names: names == ["losses", "work"])
        assert (exporting.queue.stats().delivered, exporting.queue.stats().dropped) == (1, {"refused": 3})
        exporting.queue.shutdown(1.0)
        assert told(sink) == [3]


def test_counts_go_on_from_the_beginning_of_the_process() -> None:
    """Each report says all that was lost so far, so that a lost one is made up for."""
    with Sink(behave=refusing(0, 2)) as sink:
        exporting = Exporting(sink)
        exporting.work(3)
        eventually(lambda: told(sink), lambda counts: counts == [3])
        exporting.work(4)
        eventually(lambda: told(sink), lambda counts: counts == [3, 7])
        ids = {attribute(span, "hopwatch.losses.id") for _, span in sink.spans()}
        assert len(ids) == 1
        exporting.queue.shutdown(1.0)


def test_a_report_that_was_refused_comes_again() -> None:
    """Told is only what was taken: the report rides on, with the time of the first loss."""
    with Sink(behave=refusing(0, 1)) as sink:
        exporting = Exporting(sink)
        exporting.work(3)
        eventually(lambda: exporting.lost, lambda lost: lost == 3)
        lost_at = time.time_ns()
        eventually(lambda: told(sink), lambda counts: counts == [3])
        assert next(span for _, span in sink.spans()).start_time_unix_nano <= lost_at
        exporting.queue.shutdown(1.0)


def test_a_collector_that_takes_no_report_is_not_bothered_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused for good is held back for a minute, also when the process ends."""
    monkeypatch.setattr(lossreport, "_REFUSED_PAUSE_S", 60.0)
    with Sink(behave=lambda handler, _: answer(handler, 404) is None) as sink:
        exporting = Exporting(sink)
        exporting.work(3)
        eventually(lambda: len(sink.headers), lambda requests: requests == 2)
        began = time.monotonic()
        exporting.queue.shutdown(1.0)
        assert time.monotonic() - began < 30.0
        assert len(sink.headers) == 2


def test_a_full_queue_is_told_when_the_collector_is_back() -> None:
    """What gave way while nobody listened is told with what was kept, to the span."""
    with Sink(behave=lambda handler, number: number == 0 and answer(handler, 503) is None) as sink:
        exporting = Exporting(sink)
        exporting.work(1_000)
        eventually(exporting.queue.stats, lambda now: not now.waiting)
        eventually(lambda: told(sink, "queue_full")[-1:], lambda counts: counts == [exporting.lost])
        assert exporting.queue.stats().delivered == sum(name == "work" for name in sink.names())
        exporting.queue.shutdown(1.0)
