"""A team's hooks: which hops are recorded, what they are called, what stays private."""

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import hopwatch
from hopwatch import faults
from hopwatch.conventions import (
    KAFKA_MESSAGE_KEY,
    MESSAGE_ID,
    MESSAGE_ID_HEADER,
    REASON,
    PublishOutcome,
    SettleOutcome,
    System,
)
from hopwatch.hooks import Hook
from hopwatch.recorder import Destination, Recorder

ORDERS = Destination("orders", "orders")
BEATS = Destination("heartbeats", "heartbeats")


@pytest.fixture
def recorder(spans: InMemorySpanExporter) -> Callable[[Hook], Recorder]:
    """A recorder with a hook, whose spans end in memory."""
    return lambda hook: Recorder(System.KAFKA, trace.get_tracer("hopwatch.test"), hook)


def broken(*args: Any) -> Any:
    """A hook that fails."""
    raise RuntimeError("the hook is broken")


def test_a_hop_that_is_not_kept_leaves_nothing(
    recorder: Callable[[Hook], Recorder], spans: InMemorySpanExporter
) -> None:
    """No span, no id, no late settlement; and another destination is recorded as ever."""
    recording = recorder(Hook(keep=lambda hop: hop.destination != "heartbeats"))
    headers: dict[str, str] = {}
    recording.send("send", BEATS, carrier=headers).end(PublishOutcome.SENT)
    attempt = recording.process("process", BEATS, receiver="billing", carrier=headers)
    attempt.end()
    attempt.settled(SettleOutcome.ACK)
    assert spans.get_finished_spans() == ()
    assert MESSAGE_ID_HEADER not in headers
    recording.send("send", ORDERS, carrier=headers).end(PublishOutcome.SENT)
    assert [span.name for span in spans.get_finished_spans()] == ["send orders"]


def test_the_trace_goes_on_through_hops_that_are_not_kept(
    recorder: Callable[[Hook], Recorder], spans: InMemorySpanExporter
) -> None:
    """What is sent while handling an unrecorded message, itself sent inside a span, is in that span's trace."""
    recording = recorder(Hook(keep=lambda hop: hop.destination != "heartbeats"))
    headers: dict[str, str] = {}
    with trace.get_tracer("app").start_as_current_span("work") as work:
        recording.send("send", BEATS, carrier=headers).end(PublishOutcome.SENT)
    attempt = recording.process("process", BEATS, receiver="billing", carrier=headers)
    recording.send("send", ORDERS, carrier={}).end(PublishOutcome.SENT)
    attempt.end()
    [onward] = [span for span in spans.get_finished_spans() if span.name == "send orders"]
    assert onward.context.trace_id == work.get_span_context().trace_id


def test_a_hook_names_spans(recorder: Callable[[Hook], Recorder], spans: InMemorySpanExporter) -> None:
    """The name is the hook's, made of what it is told of the hop."""
    recording = recorder(Hook(name=lambda hop: f"{hop.operation} to {hop.destination} as {hop.name}"))
    recording.send("send", ORDERS, carrier={}).end(PublishOutcome.SENT)
    recording.process("process", ORDERS, receiver="billing", carrier={}).end()
    names = [span.name for span in spans.get_finished_spans()]
    assert names == ["send to orders as send orders", "process to orders as process orders"]


def test_what_is_redacted_is_nowhere(
    recorder: Callable[[Hook], Recorder], spans: InMemorySpanExporter
) -> None:
    """Business keys, message keys, reasons and exceptions are recorded as the hook says, late or early."""
    kept = {"hopwatch.key.order_id": "…"}
    recording = recorder(Hook(redact=lambda name, value: kept.get(name)))
    with hopwatch.tag(order_id="secret-17", customer="secret-name"):
        sent = recording.send("send", ORDERS, carrier={}, attributes={KAFKA_MESSAGE_KEY: "secret-key"})
    sent.end(PublishOutcome.REFUSED, error=ValueError("secret-text"), reason="secret-reason")
    attempt = recording.process("process", ORDERS, receiver="billing", carrier={})
    attempt.settled(SettleOutcome.REJECT, "secret-reason")
    attempt.end(ValueError("secret-text"))
    first, second = spans.get_finished_spans()
    assert "secret" not in first.to_json() + second.to_json()
    said = dict(first.attributes or {})
    assert said["hopwatch.key.order_id"] == "…"
    assert REASON not in said
    assert said[MESSAGE_ID] == sent.message_id
    assert first.status.status_code is second.status.status_code is StatusCode.ERROR
    assert [event.name for event in second.events] == ["exception"]


def test_a_broken_hook_hides_rather_than_shows(
    recorder: Callable[[Hook], Recorder], spans: InMemorySpanExporter
) -> None:
    """Its errors are swallowed and counted: the hop is recorded under its own name, without what was to be redacted."""
    recording = recorder(Hook(keep=broken, name=broken, redact=broken))
    before = faults.counts().get("hook: RuntimeError", 0)
    recording.send("send", ORDERS, carrier={}, attributes={KAFKA_MESSAGE_KEY: "k"}).end(PublishOutcome.SENT)
    [span] = spans.get_finished_spans()
    assert span.name == "send orders"
    assert KAFKA_MESSAGE_KEY not in dict(span.attributes or {})
    assert faults.counts()["hook: RuntimeError"] == before + 2


def test_a_hook_for_nothing_is_an_error() -> None:
    """A name that no transport has is refused where it is written."""
    with pytest.raises(ValueError, match="no such transport: kafka"):
        hopwatch.instrument(hooks={"kafka": hopwatch.Hook()})
