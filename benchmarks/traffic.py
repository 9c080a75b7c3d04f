"""Messaging-like OTLP requests, encoded in bulk: every span has random ids and its own times, so nothing compresses unfairly."""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

Bytes = NDArray[np.uint8]
Times = NDArray[np.uint64]

_TRACE = b"\x01" * 16
_SPAN = b"\x02" * 8
_PARENT = b"\x03" * 8
_START = int.from_bytes(b"\x04" * 8, "little")
_END = int.from_bytes(b"\x05" * 8, "little")
_MESSAGE = "6" * 36
_KEY = "k" * 16
_LIVE = "shop.order.made"
DESTINATIONS = [
    f"shop.{noun}.{verb}" for noun in ("order", "payment", "stock") for verb in ("made", "failed")
]
RECEIVER = "billing-workers"
_DASHES = (8, 13, 18, 23)
_DIGITS = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)


class Outcome(StrEnum):
    """What becomes of messages."""

    SETTLED = "settled"
    FAILED = "failed"
    WAITS = "waits"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the traffic is like."""

    lasting_s: float = 60.0
    """Seconds before now that it runs through."""
    per_flow: int = 1
    """Messages of one flow, all in one request, spread through it."""
    keyed: bool = False
    """Whether the messages of a flow have a business key in common."""
    minted: bool = False
    """Whether message ids begin with the moment of sending, as hopwatch mints them; else all of their digits are random."""
    troubled_every: int = 0
    """Of so many pairs of requests one is about messages that nobody receives, one about such that their handler fails; 0: none."""

    def outcome(self, pair: int) -> Outcome:
        """Return what becomes of the messages of a pair of requests."""
        place = pair % self.troubled_every if self.troubled_every else 0
        if place == 1:
            return Outcome.WAITS
        return Outcome.FAILED if place == 2 else Outcome.SETTLED


@dataclass(frozen=True, slots=True)
class Story:
    """One flow, as it was put in."""

    trace_id: str
    """32 hex digits."""
    messages: tuple[str, ...]
    """Message ids: each was published and processed, by one span each."""
    order_id: str
    """Its business key; empty: none."""


@dataclass(frozen=True, slots=True)
class Body:
    """One serialized ExportTraceServiceRequest, and what can be looked up once it is in."""

    data: bytes
    spans: int
    story: Story
    """Of its last span."""
    outcome: Outcome = Outcome.SETTLED
    """Of its messages."""
    sent_s: Times | None = None
    """When its messages were sent (s since 1970), where it is their sender's."""

    @property
    def message_id(self) -> str:
        """Of its last span."""
        return self.story.messages[-1]


def bodies(
    spans: int, per_request: int, now_ns: int, seed: int = 1, shape: Shape | None = None
) -> Iterator[Body]:
    """Requests with `spans` spans in all: pairs of one that publishes and one that processes the same messages."""
    shape = shape or Shape()
    lasting_ns = int(shape.lasting_s * 1e9)
    random = np.random.default_rng(seed)
    sent = pair = 0
    while sent < spans:
        count = min(per_request, -(-(spans - sent) // 2))
        destination = DESTINATIONS[int(random.integers(len(DESTINATIONS)))]
        outcome = shape.outcome(pair)
        publish = _Template(_publish(destination), "orders", count, shape.keyed)
        process = _Template(_afterwards(destination, outcome), "billing", count, shape.keyed)
        start = now_ns - lasting_ns + int(lasting_ns * sent / spans)
        flows = -(-count // shape.per_flow)
        flow = np.arange(count) % flows
        traces, publishers = _rows(random.bytes(16 * flows), flows)[flow], random.bytes(8 * count)
        messages = _uuids(random, count)
        keys = _DIGITS[random.integers(0, 10, (flows, len(_KEY)))][flow] if shape.keyed else None
        begun = start + np.cumsum(random.integers(1_000, 50_000, count)).astype(np.uint64)
        if shape.minted:
            _mint(messages, begun)
        done = begun + random.integers(100_000, 3_000_000, count).astype(np.uint64)
        body = publish.fill(traces, publishers, random.bytes(8 * count), messages, begun, done, keys)
        yield replace(body, outcome=outcome, sent_s=begun // np.uint64(10**9))
        received = done + random.integers(50_000, 2_000_000, count).astype(np.uint64)
        settled = received + random.integers(200_000, 20_000_000, count).astype(np.uint64)
        body = process.fill(traces, random.bytes(8 * count), publishers, messages, received, settled, keys)
        yield replace(body, outcome=outcome)
        sent += 2 * count
        pair += 1


@dataclass(frozen=True, slots=True)
class Sent:
    """Messages that were sent together just now."""

    data: bytes
    """The sender's request."""
    at_ns: int
    traces: Bytes
    publishers: bytes
    messages: Bytes

    @property
    def message_id(self) -> str:
        """Of the last one."""
        return str(self.messages[-1].tobytes(), "ascii")


class Stream:
    """Messages of right now: so many at once, each to be received by all receivers."""

    def __init__(
        self, count: int, receivers: tuple[str, ...] = (RECEIVER, "stock-workers"), seed: int = 1
    ) -> None:
        self._count = count
        self._random = np.random.default_rng(seed)
        self._publish = _Template(_publish(_LIVE), "orders", count, keyed=False)
        self._receivers = receivers
        self._process = [
            _Template(_process(_LIVE, receiver), receiver.partition("-")[0], count, keyed=False)
            for receiver in receivers
        ]

    def sent(self, now_ns: int) -> Sent:
        """Messages sent within the last milliseconds."""
        count, random = self._count, self._random
        traces, publishers = _rows(random.bytes(16 * count), count), random.bytes(8 * count)
        messages = _uuids(random, count)
        begun = now_ns - np.arange(count, 0, -1).astype(np.uint64) * np.uint64(10_000)
        _mint(messages, begun)
        body = self._publish.fill(
            traces, publishers, random.bytes(8 * count), messages, begun, begun + np.uint64(1_000_000), None
        )
        return Sent(body.data, now_ns, traces, publishers, messages)

    def received(self, sent: Sent, now_ns: int) -> list[bytes]:
        """What the receivers tell of them, a request each, once they have processed them."""
        end = np.full(self._count, now_ns, np.uint64)
        begun = end - np.uint64((now_ns - sent.at_ns) // 2)
        ids = self._random.bytes
        return [
            template.fill(
                sent.traces, ids(8 * self._count), sent.publishers, sent.messages, begun, end, None
            ).data
            for template in self._process
        ]

    def subscribed(self, now_ns: int) -> bytes:
        """The receivers say that they are subscribed."""
        spans = [_subscribe(_LIVE, receiver, now_ns) for receiver in self._receivers]
        return _request("billing", spans).SerializeToString()


class _Template:
    """A request of equal spans whose ids and times lie at known offsets."""

    def __init__(self, span: Span, service: str, count: int, keyed: bool) -> None:
        if keyed:
            _text(span, "hopwatch.key.order_id", _KEY)
        encoded = _request(service, [span] * count).SerializeToString()
        self._encoded = np.frombuffer(encoded, dtype=np.uint8).copy()
        self._count = count
        self._stride = _stride(span)
        self._first = len(self._encoded) - count * self._stride

    def fill(
        self,
        traces: Bytes,
        ids: bytes,
        parents: bytes,
        messages: Bytes,
        start: Times,
        end: Times,
        keys: Bytes | None,
    ) -> Body:
        """The request with these ids, times and keys, one of each per span."""
        encoded = self._encoded.copy()
        rows = encoded[self._first :].reshape(self._count, self._stride)
        model = rows[0].tobytes()
        columns: list[tuple[bytes, Bytes]] = [
            (_TRACE, traces),
            (_SPAN, _rows(ids, self._count)),
            (_PARENT, _rows(parents, self._count)),
            (_START.to_bytes(8, "little"), start.view(np.uint8).reshape(self._count, 8)),
            (_END.to_bytes(8, "little"), end.view(np.uint8).reshape(self._count, 8)),
            (_MESSAGE.encode(), messages),
        ]
        if keys is not None:
            columns.append((_KEY.encode(), keys))
        for placeholder, values in columns:
            offset = model.find(placeholder)
            if offset >= 0:  # publishers have no parent
                rows[:, offset : offset + len(placeholder)] = values
        return Body(encoded.tobytes(), self._count, _last_story(traces, messages, keys))


def _request(service: str, spans: list[Span]) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in (
        ("service.name", service),
        ("service.instance.id", f"{service}-1"),
        ("host.name", "node-1"),
    ):
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_spans.add()
    scope.scope.name = "hopwatch.nats"
    scope.spans.extend(spans)
    return request


def _last_story(traces: Bytes, messages: Bytes, keys: Bytes | None) -> Story:
    flow = np.flatnonzero((traces == traces[-1]).all(axis=1))
    return Story(
        traces[-1].tobytes().hex(),
        tuple(messages[place].tobytes().decode() for place in flow),
        "" if keys is None else keys[-1].tobytes().decode(),
    )


def _rows(data: bytes, count: int) -> Bytes:
    return np.frombuffer(data, dtype=np.uint8).reshape(count, -1)


def _stride(span: Span) -> int:
    """Bytes one span takes inside its scope: tag, length and itself."""
    size = span.ByteSize()
    return 1 + (1 if size < 128 else 2) + size


def _uuids(random: np.random.Generator, count: int) -> Bytes:
    """Random UUIDs of version 7's form, as text: one row of 36 characters each."""
    text = _DIGITS[random.integers(0, 16, (count, 36))]
    text[:, _DASHES] = ord("-")
    text[:, 14] = ord("7")
    text[:, 19] = ord("8")
    uuid.UUID(text[0].tobytes().decode())  # fails loudly where the layout is wrong
    return text


def _mint(ids: Bytes, sent_ns: Times) -> None:
    """Let ids begin with the millisecond of sending, as those do that hopwatch mints."""
    ms = sent_ns // np.uint64(1_000_000)
    for place in range(12):
        digit = (ms >> np.uint64(4 * (11 - place))) & np.uint64(15)
        ids[:, place + (place >= 8)] = _DIGITS[digit]


def _publish(destination: str) -> Span:
    span = _span(f"publish {destination}", Span.SPAN_KIND_PRODUCER, destination, "publish", "send")
    _text(span, "hopwatch.publish.outcome", "confirmed")
    span.attributes.add(key="messaging.message.body.size").value.int_value = 512
    return span


def _process(destination: str, receiver: str = RECEIVER) -> Span:
    span = _span(f"process {destination}", Span.SPAN_KIND_CONSUMER, destination, "process", "process")
    span.parent_span_id = _PARENT
    _text(span, "hopwatch.receiver", receiver)
    _text(span, "hopwatch.settle.outcome", "ack")
    return span


def _afterwards(destination: str, outcome: Outcome) -> Span:
    """What follows on a message that was published: it is processed, or the publisher does something else."""
    if outcome is Outcome.WAITS:
        span = Span(
            trace_id=_TRACE, span_id=_SPAN, parent_span_id=_PARENT, name="write to the log", flags=0x101
        )
        span.kind = Span.SPAN_KIND_INTERNAL
        span.start_time_unix_nano, span.end_time_unix_nano = _START, _END
        return span
    span = _process(destination)
    if outcome is Outcome.FAILED:
        span.status.code, span.status.message = Status.STATUS_CODE_ERROR, "no such account"
        settled = next(one for one in span.attributes if one.key == "hopwatch.settle.outcome")
        settled.value.string_value = "reject"
    return span


def _subscribe(pattern: str, receiver: str, now_ns: int) -> Span:
    span = Span(
        trace_id=os.urandom(16), span_id=os.urandom(8), name="subscribe", kind=Span.SPAN_KIND_INTERNAL
    )
    span.start_time_unix_nano = span.end_time_unix_nano = now_ns
    _text(span, "hopwatch.report", "subscribe")
    _text(span, "messaging.system", "nats")
    _text(span, "hopwatch.subscription.pattern", pattern)
    _text(span, "hopwatch.receiver", receiver)
    span.attributes.add(key="hopwatch.subscription.durable").value.bool_value = True
    return span


def _span(
    name: str, kind: Span.SpanKind.ValueType, destination: str, operation: str, operation_type: str
) -> Span:
    span = Span(trace_id=_TRACE, span_id=_SPAN, name=name, kind=kind, flags=0x101)
    span.start_time_unix_nano, span.end_time_unix_nano = _START, _END
    _text(span, "messaging.system", "nats")
    _text(span, "messaging.operation.name", operation)
    _text(span, "messaging.operation.type", operation_type)
    _text(span, "messaging.destination.name", destination)
    _text(span, "hopwatch.destination", destination)
    _text(span, "hopwatch.message.id", _MESSAGE)
    return span


def _text(span: Span, key: str, value: str) -> None:
    span.attributes.add(key=key).value.string_value = value
