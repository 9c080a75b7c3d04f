"""The metrics of the messaging conventions, and the old names beside the new."""

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hopwatch.conventions import (
    DEAD_LETTER_RECEIVER,
    ERROR_TYPE,
    MESSAGE_ID,
    MESSAGING_CONSUMER_GROUP_NAME,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_OPERATION_NAME,
    MESSAGING_SYSTEM,
    PublishOutcome,
    System,
)
from hopwatch.meters import Meters
from hopwatch.recorder import Destination, KafkaPosition, Recorder

PLACE = Destination("metered", "metered", {"server.address": "broker", "server.port": 9092})


@pytest.fixture(scope="module")
def reader() -> InMemoryMetricReader:
    """Reads what the run's one meter provider, set after hopwatch's instruments were made, has collected."""
    early = Meters("kafka")
    assert not early.on
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
    assert early.on
    return reader


def points(reader: InMemoryMetricReader, metric: str) -> list[tuple[dict[str, object], float]]:
    """Return attributes and count of one metric's points about `metered`."""
    data = reader.get_metrics_data()
    found = [
        (dict(point.attributes or {}), getattr(point, "value", None) or getattr(point, "count", 0))
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for one in scope.metrics
        if one.name == metric
        for point in one.data.data_points
    ]
    return [(said, count) for said, count in found if said.get(MESSAGING_DESTINATION_NAME) == "metered"]


def test_sends_and_attempts_are_measured(spans: InMemorySpanExporter, reader: InMemoryMetricReader) -> None:
    """Counts and durations have the attributes that distinguish series, an error's type, and no message's id."""
    recorder = Recorder(System.KAFKA, trace.get_tracer("hopwatch.test"))
    headers: dict[str, str] = {}
    recorder.send("send", PLACE, carrier=headers).end(PublishOutcome.CONFIRMED)
    recorder.send("send", PLACE, carrier={}).end(PublishOutcome.REFUSED, error=ValueError("no"))
    recorder.send("send", PLACE, carrier={}).end(PublishOutcome.RETURNED)
    group = {MESSAGING_CONSUMER_GROUP_NAME: "billing"}
    recorder.process("process", PLACE, receiver="billing", carrier=headers, attributes=group).end()
    recorder.process("process", PLACE, receiver="billing", carrier={}, attributes=group).end(KeyError("x"))

    sent = points(reader, "messaging.client.sent.messages")
    assert {said.get(ERROR_TYPE): count for said, count in sent} == {None: 1, "ValueError": 1, "returned": 1}
    assert {said.get(ERROR_TYPE) for said, _ in points(reader, "messaging.client.operation.duration")} == {
        None,
        "ValueError",
        "returned",
    }
    [(consumed, count)] = points(reader, "messaging.client.consumed.messages")
    assert count == 2
    assert (consumed[MESSAGING_SYSTEM], consumed[MESSAGING_OPERATION_NAME]) == ("kafka", "process")
    assert (consumed["server.address"], consumed[MESSAGING_CONSUMER_GROUP_NAME]) == ("broker", "billing")
    assert MESSAGE_ID not in consumed
    processed = points(reader, "messaging.process.duration")
    assert {said.get(ERROR_TYPE): count for said, count in processed} == {None: 1, "KeyError": 1}


def test_old_names_beside_the_new_where_asked_for(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `messaging/dup` every attribute that has an old name has that too, late ones included."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http,messaging/dup")
    recorder = Recorder(System.KAFKA, trace.get_tracer("hopwatch.test"))
    recorder.send("send", PLACE, carrier={}).end(PublishOutcome.CONFIRMED, position=KafkaPosition(3, 41))
    [span] = spans.get_finished_spans()
    said = dict(span.attributes or {})
    assert (said["messaging.operation"], said["messaging.operation.type"]) == ("publish", "send")
    assert (said["messaging.kafka.destination.partition"], said["messaging.destination.partition.id"]) == (
        3,
        "3",
    )
    assert said["messaging.kafka.message.offset"] == said["messaging.kafka.offset"] == 41


@pytest.mark.parametrize("asked", ["", "messaging", "http/dup"])
def test_only_current_names_otherwise(
    asked: str, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hopwatch never wrote old names, so that `messaging` and nothing mean the same."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", asked)
    recorder = Recorder(System.KAFKA, trace.get_tracer("hopwatch.test"))
    recorder.send("send", PLACE, carrier={}).end(PublishOutcome.SENT)
    [span] = spans.get_finished_spans()
    assert "messaging.operation" not in dict(span.attributes or {})


def test_an_attempt_at_a_dead_lettered_copy_links_to_the_original(spans: InMemorySpanExporter) -> None:
    """The link leads to the original's send and names its id and whom it was owed to."""
    recorder = Recorder(System.RABBITMQ, trace.get_tracer("hopwatch.test"))
    headers: dict[str, str] = {}
    recorder.send("publish", PLACE, carrier=headers).end(PublishOutcome.CONFIRMED)
    dead = {DEAD_LETTER_RECEIVER: "billing"}
    recorder.process("process", PLACE, receiver="graveyard", carrier=headers, attributes=dead).end()
    sent, attempt = spans.get_finished_spans()
    [link] = attempt.links
    assert link.context.span_id == sent.context.span_id
    assert dict(link.attributes or {}) == {
        MESSAGE_ID: headers["hopwatch-id"],
        DEAD_LETTER_RECEIVER: "billing",
    }
