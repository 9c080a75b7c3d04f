"""Messages in the hands of code whose end cannot be seen, and the helpers every transport wraps libraries with."""

import asyncio
import gc
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hopwatch import faults
from hopwatch.conventions import MESSAGE_ID_HEADER, SETTLE_OUTCOME, SettleOutcome, System
from hopwatch.handover import Attempts, Batch, Handovers, handovers, processing
from hopwatch.recorder import Destination, ProcessHop, Recorder
from hopwatch.wrapping import Patches, argument, fresh_headers, guarded, header_getter, with_argument

PLACE = Destination("orders", "orders")


class Message:
    """What a client library hands out: neither hashable nor ours."""

    __hash__ = None  # type: ignore[assignment]  # as nats-py's dataclass is


class Source:
    """What messages are fetched from."""

    def fetch(self, batch: int = 1, *, timeout: float | None = None) -> tuple[int, float | None]:
        """Return the arguments."""
        return batch, timeout


@pytest.fixture
def recorder(spans: InMemorySpanExporter) -> Recorder:
    """A recorder whose spans end in memory."""
    return Recorder(System.NATS, trace.get_tracer("hopwatch.test"))


def begin(recorder: Recorder, *, attach: bool = True) -> ProcessHop:
    """Begin an attempt."""
    return recorder.process("process", PLACE, receiver="r", carrier={}, attach=attach)


async def test_coming_back_ends_what_the_task_had(recorder: Recorder) -> None:
    """Another task's message from the same source stays in hand."""
    hands, source = Handovers(), Source()
    mine, theirs = Message(), Message()
    first, second = begin(recorder), begin(recorder, attach=False)
    release = asyncio.Event()

    async def worker() -> None:
        hands.gave(source, [(theirs, second)])
        await release.wait()

    other = asyncio.create_task(worker())
    hands.gave(source, [(mine, first)])
    await asyncio.sleep(0)
    hands.back(source)
    assert (first.ended, second.ended) == (True, False)
    assert not trace.get_current_span().get_span_context().is_valid
    release.set()
    await other
    hands.back(source)
    assert second.ended


async def test_closing_a_source_ends_everything_it_gave(recorder: Recorder) -> None:
    """Whoever has it in hand."""
    hands, source, message = Handovers(), Source(), Message()
    hop = begin(recorder, attach=False)
    await asyncio.create_task(_give(hands, source, message, hop))
    hands.closed(source)
    assert hop.ended


async def test_a_settled_message_stays_current_until_its_task_comes_back(recorder: Recorder) -> None:
    """The attempt is over, but what its task sends next still belongs to its flow."""
    hands, source, message = Handovers(), Source(), Message()
    hop = begin(recorder)
    hands.gave(source, [(message, hop)])
    hands.settled(message, SettleOutcome.ACK)
    assert hop.ended
    assert trace.get_current_span(hop.context) is trace.get_current_span()
    hands.back(source)
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_callbacks_message_ends_with_its_callback(
    recorder: Recorder, spans: InMemorySpanExporter
) -> None:
    """Settling it does not end it; its caller does."""
    hands, message = Handovers(), Message()
    hop = begin(recorder)
    hands.called(message, hop)
    hands.settled(message, SettleOutcome.ACK)
    assert not hop.ended
    hop.end()
    [span] = spans.get_finished_spans()
    assert (span.attributes or {})[SETTLE_OUTCOME] == "ack"


async def test_a_message_let_go_is_never_ended_inside_the_garbage_collector(recorder: Recorder) -> None:
    """The collector may run in the middle of an exporter; the attempt ends on the next turn of the loop."""
    hands, source = Handovers(), Source()
    cycle: list[Any] = [Message()]
    cycle.append(cycle)
    hop = begin(recorder)
    hands.gave(source, [(cycle[0], hop)])
    del cycle
    gc.collect()
    assert not hop.ended
    await asyncio.sleep(0)
    assert hop.ended


async def test_a_source_that_cannot_be_tracked_harms_nobody(recorder: Recorder) -> None:
    """An object without weak references is counted as a fault of ours."""
    before = faults.counts()
    handovers.gave(object(), [(Message(), begin(recorder))])
    assert faults.counts() != before


def test_a_loop_over_a_batch_is_left_without_a_trace(recorder: Recorder) -> None:
    """Break and exceptions take the current hop away with them."""
    messages = [Message(), Message()]
    hops = [begin(recorder, attach=False) for _ in messages]
    for message, hop in zip(messages, hops, strict=True):
        handovers.called(message, hop)
    batch = Batch(messages, ends=False)
    for _ in batch:
        assert trace.get_current_span() is trace.get_current_span(hops[0].context)
        break
    assert not trace.get_current_span().get_span_context().is_valid
    assert batch == messages
    for hop in hops:
        hop.end()


def test_processing_shows_an_exception_and_lets_it_pass(
    recorder: Recorder, spans: InMemorySpanExporter
) -> None:
    """A message that is not in hand changes nothing."""
    message, hop = Message(), begin(recorder, attach=False)
    handovers.called(message, hop)
    with pytest.raises(ValueError, match="broken"), processing(message):
        raise ValueError("broken")
    with processing(Message()):
        pass
    [span] = spans.get_finished_spans()
    assert not span.status.is_ok
    assert not trace.get_current_span().get_span_context().is_valid


def test_attempts_are_counted_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest messages are forgotten first."""
    monkeypatch.setattr(Attempts, "LIMIT", 2)
    attempts = Attempts()
    assert [attempts.again("a"), attempts.again("a"), attempts.again("b")] == [2, 3, 2]
    attempts.again("c")
    assert attempts.again("a") == 2


def test_patches_give_way_to_those_who_came_later() -> None:
    """Where somebody wrapped our wrapper, ours becomes transparent and theirs stays."""
    original = Source.fetch
    patches, later = Patches(), Patches()
    patches.wrap(Source, "fetch", lambda wrapped, instance, args, kwargs: ("ours", wrapped(*args, **kwargs)))
    later.wrap(Source, "fetch", lambda wrapped, instance, args, kwargs: ("theirs", wrapped(*args, **kwargs)))
    assert Source().fetch(2) == ("theirs", ("ours", (2, None)))
    patches.undo()
    assert Source().fetch(2) == ("theirs", (2, None))
    later.undo()
    Source.fetch = original  # type: ignore[method-assign]  # what `later` put back is our transparent wrapper


def test_a_method_that_is_not_there_is_said_aloud() -> None:
    """An unsupported version of a library fails at start-up, not at the first message."""
    with pytest.raises(AttributeError, match=r"Source has no consume"):
        Patches().wrap(Source, "consume", lambda wrapped, instance, args, kwargs: None)


def test_an_argument_is_replaced_the_way_it_was_passed() -> None:
    """By position or by name, and nothing else is touched."""
    assert argument((1, 2), {}, 1, "headers") == argument((1,), {"headers": 2}, 1, "headers") == 2
    assert with_argument((1, 2, 3), {}, 1, "headers", 9) == ((1, 9, 3), {})
    assert with_argument((1,), {"other": 3}, 1, "headers", 9) == ((1,), {"other": 3, "headers": 9})


def test_headers_are_copied_without_the_previous_hop(spans: InMemorySpanExporter) -> None:
    """Whatever the case of their names; readers do not mind it either."""
    given = {"Traceparent": "x", MESSAGE_ID_HEADER: "y", "mine": b"kept"}
    assert fresh_headers(given) == {"mine": b"kept"}
    assert len(given) == 3
    assert header_getter.get(given, "traceparent") == ["x"]
    assert header_getter.get(given, "mine") == ["kept"]
    assert header_getter.get({"n": 1}, "n") is header_getter.get(None, "n") is None


def test_a_guarded_function_answers_none_instead_of_raising() -> None:
    """Its errors are counted under its name."""

    @guarded
    def explode() -> int:
        raise RuntimeError("ours")

    assert explode() is None
    assert any("explode" in kind for kind in faults.counts())


async def _give(hands: Handovers, source: Source, message: Message, hop: ProcessHop) -> None:
    hands.gave(source, [(message, hop)])
