"""Inside OpenTelemetry's `suppress_instrumentation()` hopwatch is silent."""

from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hopwatch.conventions import PublishOutcome, System
from hopwatch.recorder import Destination, Recorder

PLACE = Destination("orders", "orders")


def test_nothing_is_recorded_or_injected_while_suppressed(spans: InMemorySpanExporter) -> None:
    """A send, an attempt, a commit and a subscription leave neither spans nor headers; after the block they do."""
    recorder = Recorder(System.KAFKA, trace.get_tracer("hopwatch.test"))
    headers: dict[str, str] = {}
    with suppress_instrumentation():
        recorder.send("send", PLACE, carrier=headers).end(PublishOutcome.SENT)
        recorder.process("process", PLACE, receiver="billing", carrier={}).end()
        recorder.commit(PLACE, receiver="billing", partition=0, offset=1)
        recorder.subscribed("orders", receiver="billing", durable=True)
    assert spans.get_finished_spans() == ()
    assert headers == {}
    recorder.send("send", PLACE, carrier=headers).end(PublishOutcome.SENT)
    assert [span.name for span in spans.get_finished_spans()] == ["send orders"]
    assert headers
