"""The generic hop recorder, below all transports."""

import asyncio
import time
from collections.abc import Callable

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import hopwatch
from hopwatch.conventions import (
    ATTEMPT,
    DESTINATION,
    ERROR_TYPE,
    KAFKA_OFFSET,
    MESSAGE_ID,
    MESSAGE_ID_HEADER,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_DESTINATION_PARTITION_ID,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
    PUBLISH_OUTCOME,
    REASON,
    RECEIVER,
    REPORT,
    SETTLE_OUTCOME,
    SUBSCRIPTION_DURABLE,
    SUBSCRIPTION_PATTERN,
    PublishOutcome,
    SettleOutcome,
    System,
)
from hopwatch.recorder import Destination, KafkaPosition, ProcessHop, Recorder
from hopwatch_demo.patience import scale_wait

PLACE = Destination(name="shop:order.placed", address="shop:order.placed")


@pytest.fixture
def recorder(spans: InMemorySpanExporter) -> Recorder:
    """A recorder whose spans end in memory."""
    return Recorder(System.RABBITMQ, trace.get_tracer("hopwatch.test"))


def of_kind(spans: InMemorySpanExporter, kind: SpanKind) -> list[ReadableSpan]:
    """Return the ended spans of one kind."""
    return [span for span in spans.get_finished_spans() if span.kind is kind]


def wait_for(condition: Callable[[], bool], within: float = 10.0) -> None:
    """Wait until a condition holds; fail after `within` seconds."""
    deadline = time.monotonic() + scale_wait(within)
    pause = __import__("threading").Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        pause.wait(0.02)


def send(recorder: Recorder) -> dict[str, str]:
    """Send one confirmed message and return its headers."""
    headers: dict[str, str] = {}
    recorder.send("publish", PLACE, carrier=headers).end(PublishOutcome.CONFIRMED)
    return headers


def test_a_send_is_a_producer_span_with_its_outcome(recorder: Recorder, spans: InMemorySpanExporter) -> None:
    """Name, kind, operation, destination, id and outcome are those of the conventions."""
    headers: dict[str, str] = {}
    hop = recorder.send("publish", PLACE, carrier=headers)
    hop.end(PublishOutcome.CONFIRMED, position=KafkaPosition(3, 41))
    [span] = of_kind(spans, SpanKind.PRODUCER)
    assert span.name == "publish shop:order.placed"
    said = dict(span.attributes or {})
    assert said[MESSAGE_ID] == headers[MESSAGE_ID_HEADER] == hop.message_id
    assert said[MESSAGING_OPERATION_TYPE] == "send"
    assert said[MESSAGING_DESTINATION_NAME] == said[DESTINATION] == "shop:order.placed"
    assert said[PUBLISH_OUTCOME] == "confirmed"
    assert (said[MESSAGING_DESTINATION_PARTITION_ID], said[KAFKA_OFFSET]) == ("3", 41)
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    "outcome", [PublishOutcome.RETURNED, PublishOutcome.REFUSED, PublishOutcome.UNCONFIRMED]
)
def test_a_bad_outcome_is_an_error(
    outcome: PublishOutcome, recorder: Recorder, spans: InMemorySpanExporter
) -> None:
    """What the broker did not take is an error with its reason."""
    recorder.send("publish", PLACE, carrier={}).end(outcome, reason="NO_ROUTE")
    [span] = of_kind(spans, SpanKind.PRODUCER)
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})[REASON] == "NO_ROUTE"


def test_a_frameworks_span_around_a_send_is_about_the_same_message(
    recorder: Recorder, spans: InMemorySpanExporter
) -> None:
    """It says so under our names; a span of another system, or around what was said already, is left as it is."""
    tracer = trace.get_tracer("framework")
    said = {MESSAGING_SYSTEM: "rabbitmq", MESSAGING_DESTINATION_NAME: "order.placed"}
    with tracer.start_as_current_span("publish", kind=SpanKind.PRODUCER, attributes=said):
        ids = [publish(recorder) for _ in range(2)]
    with tracer.start_as_current_span(
        "other", kind=SpanKind.PRODUCER, attributes={MESSAGING_SYSTEM: "kafka"}
    ):
        send(recorder)
    with tracer.start_as_current_span("work", attributes=said):
        publish(recorder)
    around = {span.name: dict(span.attributes or {}) for span in spans.get_finished_spans()}
    assert around["publish"] == {**said, MESSAGE_ID: ids[0], DESTINATION: PLACE.address}
    assert around["other"] == {MESSAGING_SYSTEM: "kafka"}
    assert around["work"] == said


def publish(recorder: Recorder) -> str:
    """Send a message; return its id."""
    hop = recorder.send("publish", PLACE, carrier={})
    hop.end(PublishOutcome.SENT)
    return hop.message_id


def test_a_send_that_nobody_answered_is_told_again_once_the_same_is_sent_there(
    recorder: Recorder, spans: InMemorySpanExporter
) -> None:
    """Under which id; neither something else nor the same elsewhere is a retry, and a retry is one once."""
    first, second = publish(recorder), publish(recorder)
    elsewhere = Destination(name="other", address="other")
    recorder.unanswered(PLACE, b"one", first)
    recorder.sent_again("publish", PLACE, b"another", second)
    recorder.sent_again("publish", elsewhere, b"one", second)
    recorder.sent_again("publish", PLACE, b"one", second)
    recorder.sent_again("publish", PLACE, b"one", second)
    told = [dict(span.attributes or {}) for span in spans.get_finished_spans()]
    [again] = [one for one in told if REASON in one]
    assert (again[MESSAGE_ID], again[PUBLISH_OUTCOME], again[REASON]) == (
        first,
        "unconfirmed",
        f"sent again as {second}",
    )


def test_the_first_outcome_counts(recorder: Recorder, spans: InMemorySpanExporter) -> None:
    """A second end changes nothing."""
    hop = recorder.send("publish", PLACE, carrier={})
    hop.end(PublishOutcome.CONFIRMED)
    hop.end(PublishOutcome.REFUSED)
    [span] = of_kind(spans, SpanKind.PRODUCER)
    assert dict(span.attributes or {})[PUBLISH_OUTCOME] == "confirmed"


def test_headers_of_a_forwarded_message_are_replaced(recorder: Recorder) -> None:
    """A forwarded message carries one trace context and one id: the new ones."""
    headers = send(recorder)
    before = dict(headers)
    recorder.send("publish", PLACE, carrier=headers).end(PublishOutcome.CONFIRMED)
    assert set(headers) == set(before)
    assert headers["traceparent"] != before["traceparent"]
    assert headers[MESSAGE_ID_HEADER] != before[MESSAGE_ID_HEADER]


def test_a_process_hop_is_a_child_of_the_send(recorder: Recorder, spans: InMemorySpanExporter) -> None:
    """Receiver, attempt, id and settlement are on a consumer span below the producer's."""
    headers = send(recorder)
    hop = recorder.process("process", PLACE, receiver="billing", carrier=headers, attempt=2)
    hop.settled(SettleOutcome.ACK)
    hop.end()
    [sent], [got] = of_kind(spans, SpanKind.PRODUCER), of_kind(spans, SpanKind.CONSUMER)
    assert got.parent is not None
    assert got.parent.span_id == sent.context.span_id
    said = dict(got.attributes or {})
    assert (said[RECEIVER], said[ATTEMPT], said[SETTLE_OUTCOME]) == ("billing", 2, "ack")
    assert said[MESSAGE_ID] == headers[MESSAGE_ID_HEADER]


def test_an_unsettled_hop_says_so(recorder: Recorder, spans: InMemorySpanExporter) -> None:
    """A handler that returns without settling leaves `none`."""
    recorder.process("process", PLACE, receiver="billing", carrier={}).end()
    [got] = of_kind(spans, SpanKind.CONSUMER)
    assert dict(got.attributes or {})[SETTLE_OUTCOME] == "none"


def test_a_late_settlement_becomes_a_span_of_its_own(recorder: Recorder, spans: InMemorySpanExporter) -> None:
    """An ack after the handler returned is told by a settle span with the same identity."""
    headers = send(recorder)
    hop = recorder.process("process", PLACE, receiver="billing", carrier=headers)
    hop.end()
    hop.settled(SettleOutcome.ACK)
    [late] = of_kind(spans, SpanKind.CLIENT)
    said = dict(late.attributes or {})
    assert said[MESSAGING_OPERATION_TYPE] == "settle"
    assert (said[SETTLE_OUTCOME], said[MESSAGE_ID]) == ("ack", headers[MESSAGE_ID_HEADER])


def test_an_error_ends_the_hop_as_failed(recorder: Recorder, spans: InMemorySpanExporter) -> None:
    """The handler's exception is the span's error."""
    recorder.process("process", PLACE, receiver="billing", carrier={}).end(ValueError("no such order"))
    [got] = of_kind(spans, SpanKind.CONSUMER)
    assert got.status.status_code is StatusCode.ERROR
    assert dict(got.attributes or {})[ERROR_TYPE] == "ValueError"


def test_what_is_sent_while_processing_belongs_to_the_hop(
    recorder: Recorder, spans: InMemorySpanExporter
) -> None:
    """A send inside a process hop is its child; after the hop it is not."""
    hop = recorder.process("process", PLACE, receiver="billing", carrier=send(recorder))
    recorder.send("publish", PLACE, carrier={}).end(PublishOutcome.SENT)
    hop.end()
    recorder.send("publish", PLACE, carrier={}).end(PublishOutcome.SENT)
    [got] = of_kind(spans, SpanKind.CONSUMER)
    _, inside, after = of_kind(spans, SpanKind.PRODUCER)
    assert inside.parent is not None
    assert inside.parent.span_id == got.context.span_id
    assert after.parent is None


async def test_a_hop_may_end_in_another_task(
    recorder: Recorder, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """Ending elsewhere logs nothing and leaves the other task's context alone."""
    hop = recorder.process("process", PLACE, receiver="billing", carrier={})

    async def elsewhere() -> None:
        hop.end()

    with hopwatch.tag(mine="1"):
        await asyncio.create_task(elsewhere())
    assert len(of_kind(spans, SpanKind.CONSUMER)) == 1
    assert caplog.records == []


async def test_concurrent_tasks_never_mix_contexts(recorder: Recorder, spans: InMemorySpanExporter) -> None:
    """Fifty tasks with interleaved hops each send within their own hop."""

    async def handle(number: int) -> tuple[int, int]:
        hop = recorder.process("process", PLACE, receiver=f"r{number}", carrier={})
        for _ in range(3):
            await asyncio.sleep(0)
        inside = trace.get_current_span().get_span_context().span_id
        recorder.send("publish", PLACE, carrier={}, attributes={"number": number}).end(PublishOutcome.SENT)
        hop.end()
        return number, inside

    inside = dict(await asyncio.gather(*(handle(n) for n in range(50))))
    for span in of_kind(spans, SpanKind.PRODUCER):
        assert span.parent is not None
        assert span.parent.span_id == inside[int(str((span.attributes or {})["number"]))]


def test_a_long_hop_is_reported_while_open(recorder: Recorder, spans: InMemorySpanExporter) -> None:
    """A hop still in progress after a second is told by a child span that repeats its attributes."""
    hop: ProcessHop = recorder.process("process", PLACE, receiver="billing", carrier=send(recorder))

    def reports() -> list[ReadableSpan]:
        return [span for span in spans.get_finished_spans() if (span.attributes or {}).get(REPORT) == "open"]

    wait_for(lambda: len(reports()) == 1)
    said = dict(reports()[0].attributes or {})
    assert of_kind(spans, SpanKind.CONSUMER) == []
    assert (said[RECEIVER], said[MESSAGING_OPERATION_TYPE]) == ("billing", "process")
    hop.end()


def test_a_subscription_is_reported_once_and_its_end_too(
    recorder: Recorder, spans: InMemorySpanExporter
) -> None:
    """Subscribing twice is one piece of news; unsubscribing another."""
    recorder.subscribed("shop:order.*", receiver="billing", durable=True)
    recorder.subscribed("shop:order.*", receiver="billing", durable=True)
    recorder.unsubscribed("shop:order.*", receiver="billing")
    recorder.unsubscribed("shop:order.*", receiver="billing")
    said = [dict(span.attributes or {}) for span in spans.get_finished_spans()]
    assert [one[REPORT] for one in said] == ["subscribe", "unsubscribe"]
    assert said[0][SUBSCRIPTION_PATTERN] == "shop:order.*"
    assert said[0][SUBSCRIPTION_DURABLE] is True


def test_a_commit_is_a_settle_span_with_the_next_offset(
    recorder: Recorder, spans: InMemorySpanExporter
) -> None:
    """A committed position names group, partition and the next offset to read."""
    recorder.commit(Destination("orders", "orders"), receiver="billing", partition=2, offset=18)
    [span] = spans.get_finished_spans()
    said = dict(span.attributes or {})
    assert (said[RECEIVER], said[MESSAGING_DESTINATION_PARTITION_ID], said[KAFKA_OFFSET]) == (
        "billing",
        "2",
        18,
    )
    assert said[SETTLE_OUTCOME] == "commit"


def test_a_broken_carrier_does_not_break_the_host(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors of ours are counted, logged once and swallowed; the hop still answers."""
    from hopwatch import faults

    before = sum(faults.counts().values())
    for _ in range(3):
        recorder.send("publish", PLACE, carrier=object()).end(PublishOutcome.SENT)
    assert sum(faults.counts().values()) == before + 3
    assert len(caplog.records) <= 1
