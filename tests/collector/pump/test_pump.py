"""The pump: batches reach the store once each, whatever fails in between, and one bad request stops nobody."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hopwatch_collector.errors import EngineRefusal, EngineUnavailable
from hopwatch_collector.journal import BatchLog, Journal
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.pump import Pump
from hopwatch_collector.quarantine import Quarantine
from hopwatch_collector.settings import Settings
from hopwatch_demo.patience import scale_wait


class Rig:
    """A journal, a pump and a store of files; `crash` ends them as a kill would."""

    def __init__(self, directory: Path, store, **changes: object) -> None:
        self.store = store
        self.metrics = Metrics()
        self.synced = 0
        self.journal_dir = directory / "journal"
        self.journal_dir.mkdir(parents=True, exist_ok=True)
        self.quarantine_dir = directory / "quarantine"
        settings = Settings(data=directory, linger=0.01).model_copy(update=changes)
        self.log = BatchLog(self.journal_dir / "batches.log")
        self.journal = Journal(
            self.journal_dir, self.log, max_bytes=1 << 30, segment_bytes=1 << 20, metrics=self.metrics
        )
        self.pump = Pump(
            self.journal, self.log, store, Quarantine(self.quarantine_dir), settings, self.metrics, self._sync
        )

    def _sync(self) -> None:
        self.synced += 1

    def append(self, *bodies: bytes, spans: int = 1) -> None:
        async def run() -> None:
            await asyncio.gather(*(self.journal.append(body, spans) for body in bodies))

        asyncio.run(run())

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + scale_wait(20)
        while not condition():
            assert time.monotonic() < deadline, f"still waiting; pump says {self.pump.failure!r}"
            time.sleep(0.002)

    def wait_drained(self) -> None:
        self.wait_for(lambda: self.pump.backlog_bytes == 0)

    def stop(self, drain_s: float = 10.0) -> None:
        self.journal.close()
        self.pump.stop(drain_s)
        self.log.close()

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def rig(tmp_path: Path, file_store):
    """Builds rigs over one data directory and one store, and stops what a test leaves running."""
    built: list[Rig] = []

    def build(**changes: object) -> Rig:
        built.append(Rig(tmp_path / "data", file_store, **changes))
        return built[-1]

    yield build
    for each in built:
        each.stop(drain_s=0)


def test_requests_reach_the_store_in_order(rig, file_store, otlp) -> None:
    """What was journalled is stored, in order, in few batches."""
    running = rig()
    running.pump.start()
    running.append(*[otlp([f"span {n}"]) for n in range(50)])
    running.wait_drained()
    assert file_store.span_names() == [f"span {n}" for n in range(50)]
    assert len(file_store.inserts) < 25


def test_a_batch_goes_as_soon_as_it_is_large_enough(rig, file_store, otlp) -> None:
    """With enough spans, no time is lost waiting for more."""
    running = rig(linger=30.0, batch_spans=10)
    running.pump.start()
    running.append(*[otlp([str(n)]) for n in range(10)])
    running.wait_drained()
    assert len(file_store.inserts) == 1


class Viewers:
    """An audience of so many, counting the news it is told."""

    def __init__(self, viewers: int) -> None:
        self.viewers = viewers
        self.told = 0

    def news(self) -> None:
        self.told += 1


def test_viewers_hear_of_every_insert(rig, otlp) -> None:
    """Whoever watches is told once what came in can be queried."""
    running = rig()
    running.pump.audience = audience = Viewers(1)
    running.pump.start()
    running.append(otlp(["a"]))
    running.wait_for(lambda: audience.told == 1)
    running.append(otlp(["b"]))
    running.wait_for(lambda: audience.told == 2)


@pytest.mark.parametrize(("viewers", "times"), [(0, 3.0), (1, 1.0)])
def test_spans_wait_less_while_somebody_watches(rig, file_store, otlp, viewers: int, times: float) -> None:
    """Small batches rest as long as the last insert took, three times as long where nobody looks."""
    running = rig()
    running.pump.audience = Viewers(viewers)
    insert, waits = file_store.insert_otlp, []
    file_store.insert_otlp = lambda *given: (time.sleep(0.05), insert(*given))
    running.journal.wait_spans = lambda _total, timeout: waits.append(timeout)
    running.pump.start()
    running.append(otlp(["first"]))
    running.wait_drained()
    took = running.value("hopwatch_engine_insert_seconds_sum")
    running.append(otlp(["second"]))
    running.wait_drained()
    assert waits[-1] == pytest.approx(min(times * took, 1.0))


def test_a_backlog_goes_in_larger_batches(rig, file_store, otlp) -> None:
    """An engine that is behind is given up to ten times the usual batch at once, and not more."""
    running = rig(batch_spans=10)
    running.append(*[otlp([str(n)]) for n in range(220)])
    running.pump.start()
    running.wait_drained()
    assert len(file_store.inserts) == 3
    assert file_store.span_names() == [str(n) for n in range(220)]


def test_stopping_drains_and_leaves_no_segment(rig, file_store, otlp) -> None:
    """An orderly stop gives the store everything and the journal's files back to the disk."""
    running = rig(linger=30.0)
    running.pump.start()
    running.append(otlp(["a"]), otlp(["b"]))
    running.stop()
    assert file_store.span_names() == ["a", "b"]
    assert list(running.journal_dir.glob("*.segment")) == []
    assert running.synced == 1


def test_a_store_that_is_away_is_tried_again(rig, file_store, otlp) -> None:
    """Failures are retried with the same token until the store is back; health says why meanwhile."""
    file_store.failures = [EngineUnavailable("away"), EngineUnavailable("still away"), RuntimeError("odd")]
    running = rig()
    running.pump.start()
    running.append(otlp(["a"]))
    running.wait_for(lambda: "away" in running.pump.failure)
    running.wait_drained()
    assert file_store.span_names() == ["a"]
    assert len(file_store.inserts) == 4
    assert len(set(file_store.inserts)) == 1
    assert running.pump.failure == ""
    assert running.value("hopwatch_engine_failures_total", kind="insert") == 3


def test_a_stop_does_not_wait_for_a_dead_store(rig, file_store, otlp) -> None:
    """What the store does not take in time stays in the journal, for the next start."""
    file_store.failures = [EngineUnavailable("away")] * 1000
    running = rig()
    running.pump.start()
    running.append(otlp(["a"]))
    began = time.monotonic()
    running.stop(drain_s=0.2)
    assert time.monotonic() - began < 5
    file_store.failures = []
    again = rig()
    again.pump.start()
    again.wait_drained()
    assert file_store.span_names() == ["a"]


def test_a_batch_of_unknown_outcome_is_sent_again_with_its_token(rig, file_store, otlp) -> None:
    """A crash after the insert and before the checkpoint repeats the same boundaries; the token makes it harmless."""
    crashed = rig()
    crashed.append(otlp(["a"]), otlp(["b"]))
    chunk = crashed.journal.read(0)
    crashed.log.begin(chunk.stretch)
    file_store.insert_otlp(chunk.payload, crashed.log.token(chunk.stretch))
    crashed.append(otlp(["c"]))  # more arrives, which must not widen the batch begun
    crashed.journal.close()

    again = rig()
    again.pump.start()
    again.wait_drained()
    again.append(otlp(["d"]))
    again.wait_drained()
    assert file_store.inserts[0] == file_store.inserts[1]
    assert file_store.span_names() == ["a", "b", "c", "d"]


@pytest.mark.parametrize("position", [0, 3, 6])
def test_a_poison_request_is_set_aside_and_the_rest_goes_on(rig, file_store, otlp, position: int) -> None:
    """The engine's refusal of one request costs that one only: it is kept, counted, and the pipe goes on."""
    file_store.poison, file_store.refusal = b"poison", EngineRefusal("no such thing")
    names = [f"span {n}" for n in range(7)]
    names[position] = "poison"
    running = rig()
    running.append(*[otlp([name]) for name in names])
    running.pump.start()
    running.wait_drained()
    running.append(otlp(["after"]))
    running.wait_drained()
    assert sorted(file_store.span_names()) == sorted([name for name in names if name != "poison"] + ["after"])
    [kept] = running.quarantine_dir.iterdir()
    assert b"poison" in kept.read_bytes()
    assert running.value("hopwatch_engine_quarantined_spans_total") == 1


def test_an_engine_that_refuses_everything_is_not_believed(rig, file_store, otlp) -> None:
    """Where even a request without spans is refused, the engine is broken, not the request: nothing is set aside."""
    file_store.poison, file_store.refusal = b"", EngineRefusal("no such table")
    running = rig()
    running.pump.start()
    running.append(otlp(["a"]))
    running.wait_for(lambda: "refuses everything" in running.pump.failure)
    assert not running.quarantine_dir.exists()
    file_store.refusal = None
    running.wait_drained()
    assert b"".join(file_store.payloads()).count(b"a") >= 1


def test_upkeep_goes_round_and_survives_failure(rig, file_store, otlp) -> None:
    """The store's upkeep is called again and again; an error in it is counted, not fatal."""
    calls = []

    def maintain() -> None:
        calls.append(1)
        raise EngineUnavailable("busy")

    file_store.maintain = maintain
    running = rig()
    running.pump.start()
    running.wait_for(lambda: len(calls) >= 2)
    running.append(otlp(["a"]))
    running.wait_drained()
    assert running.value("hopwatch_engine_failures_total", kind="maintain") >= 2


def test_stop_without_start_is_safe(rig) -> None:
    """A pump that never ran can be stopped."""
    rig().stop()


def test_a_full_quarantine_drops_its_oldest(tmp_path: Path) -> None:
    """The quarantine is bounded; the newest request is always kept."""
    from hopwatch_collector.journal import Stretch

    quarantine = Quarantine(tmp_path / "q", max_bytes=250)
    for start in range(4):
        quarantine.keep(Stretch(start * 100, start * 100 + 100), bytes([start]) * 100)
    assert [file.read_bytes()[0] for file in sorted((tmp_path / "q").iterdir())] == [2, 3]


def test_batches_whose_lines_were_lost_reach_the_store(rig, file_store, otlp) -> None:
    """A log of batches that cannot be read in the midst costs nothing, over several segments too."""
    running = rig()
    bodies = [otlp([f"span {n}"], padding=300_000) for n in range(12)]
    for body in bodies:
        running.append(body)
    position = 0
    while (chunk := running.journal.read(position, max_spans=1)) is not None:
        running.log.begin(chunk.stretch)
        position = chunk.stretch.end
    running.stop(drain_s=0)
    path = running.journal_dir / "batches.log"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], *lines[-1:]]))
    again = rig()
    assert len(list(again.journal_dir.glob("*.segment"))) > 2
    again.pump.start()
    again.wait_drained()
    assert sorted(file_store.span_names()) == sorted(f"span {n}" for n in range(12))
