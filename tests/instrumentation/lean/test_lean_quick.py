"""The quick lane of hopwatch's own recorder: the same spans as by the API, and only where nothing unusual is set up."""

import json
import random
from collections.abc import Iterator
from threading import current_thread
from time import monotonic, time_ns
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagators.textmap import Setter, default_setter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hopwatch.calls import Calls
from hopwatch.context import FLOW_KEY, get_current
from hopwatch.context import attach as make_current
from hopwatch.conventions import (
    ERROR_TYPE,
    MESSAGE_ID,
    PUBLISH_OUTCOME,
    Operation,
    PublishOutcome,
    SettleOutcome,
    System,
)
from hopwatch.lean.encode import Encoder
from hopwatch.lean.encode import encoded as as_field
from hopwatch.lean.ledger import Loss
from hopwatch.lean.provider import LeanTracer, LeanTracerProvider
from hopwatch.lean.queue import SpanQueue
from hopwatch.lean.sent import LeanSend
from hopwatch.lean.settings import ExportSettings
from hopwatch.lean.span import LeanSpan
from hopwatch.native import native
from hopwatch.places import Preparations, Prepared
from hopwatch.ready import Ready, never_quick, never_quick_process, never_quick_receive, never_quick_send
from hopwatch.recorder import Destination, KafkaPosition, ProcessHop, Recorder, StreamPosition
from hopwatch.reports import reporter
from hopwatch.transports.aiokafka.headers import header_setter as kafka_setter
from hopwatch.wrapping import header_getter

pytestmark = pytest.mark.usefixtures("by_hand")
RESOURCE = Resource({"service.name": "under-test"})
MESSAGE = "0191d3c0-0000-7000-8000-000000000000"
PLACE = Preparations(System.KAFKA, Operation.SEND).of(
    "send", Destination("orders", "orders", {"server.address": "broker", "server.port": 9092})
)
PAY = Prepared("shop/Pay", {"rpc.system.name": "grpc", "rpc.method": "shop/Pay"}, Destination("pay", "pay"))
ORDERS = Destination("orders", "orders", {"server.address": "broker", "server.port": 9092})

flows = st.integers(1, 2**128 - 1).map("{:032x}".format)
states = st.none() | flows.map(lambda flow: trace.TraceState([("hw", flow)]))
parents = st.builds(
    SpanContext,
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**64 - 1),
    st.booleans(),
    st.integers(0, 255).map(TraceFlags),
    states,
)
contexts = st.none() | parents
positions = st.one_of(
    st.none(),
    st.builds(KafkaPosition, st.integers(0, 1 << 31), st.integers(0, (1 << 63) - 1)),
    st.builds(StreamPosition, st.text(max_size=8), st.integers(0, (1 << 63) - 1)),
)
BAD = {PublishOutcome.RETURNED, PublishOutcome.REFUSED, PublishOutcome.UNCONFIRMED}
SENDER = SpanContext(7, 8, True, TraceFlags(1))
values = st.text(max_size=20) | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False)
attributes = st.dictionaries(st.text(min_size=1, max_size=12), values, max_size=140)


class Kept:
    """An outlet that keeps ended spans."""

    def __init__(self) -> None:
        self.spans: list[LeanSpan | LeanSend] = []
        self.put = self.spans.append


class Headers(dict[str, str]):
    """A carrier that is more than a dict."""


def around(parent: SpanContext | None) -> Context:
    """Return a context whose current span is `parent`."""
    return Context() if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), Context())


def own(provider: LeanTracerProvider) -> LeanTracer:
    """Return the tracer of a recorder."""
    tracer = provider.get_tracer("hopwatch.kafka")
    assert isinstance(tracer, LeanTracer)
    return tracer


def written(span: Any) -> dict[str, str]:
    """Return the headers that OpenTelemetry writes for a span."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
    return carrier


def encoded(span: LeanSpan | LeanSend, *, times: bool = False) -> dict[str, Any]:
    """Return what the exporter writes for a span, but for its id and, unless asked for, times; attributes by name."""
    if span.end_time is None:
        assert isinstance(span, LeanSpan)
        span.end()
    body = Encoder(RESOURCE).encode([span._tracer], [as_field(span)])
    [resource] = ExportTraceServiceRequest.FromString(body).resource_spans
    [scope] = resource.scope_spans
    [sent] = scope.spans
    for field in () if times else ("trace_id", "span_id", "start_time_unix_nano", "end_time_unix_nano"):
        sent.ClearField(field)
    keys = {one.key: one.value.SerializeToString() for one in sent.attributes}
    assert len(keys) == len(sent.attributes)
    sent.ClearField("attributes")
    return {"attributes": keys, "rest": sent.SerializeToString()}


def told(span: Any) -> dict[str, Any]:
    """Return all that a span tells, but for when."""
    said: dict[str, Any] = json.loads(span.to_json())
    return {name: value for name, value in said.items() if name not in ("start_time", "end_time")}


@given(contexts, attributes, st.sampled_from(SpanKind), st.integers())
def test_a_quick_span_is_the_one_start_span_makes(
    parent: SpanContext | None, described: dict[str, Any], kind: SpanKind, seed: int
) -> None:
    """Wherever the quick lane answers, its span has every id, flag and attribute of the ordinary one."""
    tracer = own(LeanTracerProvider(RESOURCE, sampler=DEFAULT_ON))
    described = {name: value for name, value in described.items() if name not in PLACE.attributes}
    random.seed(seed)
    ordinary = tracer.start_span(
        "send orders", around(parent), kind, Ready({**PLACE.attributes, **described})
    )
    random.seed(seed)
    quick = tracer.quick(PLACE, parent, kind, dict(described))
    sampled = parent is None or (parent.is_valid and parent.trace_flags.sampled)
    assert (quick is not None) == (sampled and len(described) + len(PLACE.attributes) <= 124)
    if quick is not None:
        assert told(quick) == told(ordinary)
        assert quick.get_span_context() == ordinary.get_span_context()
        assert encoded(quick) == encoded(ordinary)


carriers = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from(
            ["traceparent", "hopwatch-id", "tracestate", "baggage", "Traceparent", "content-type"]
        ),
        st.one_of(
            st.builds(
                "00-{:032x}-{:016x}-{:02x}".format,
                st.integers(0, 2**128 - 1),
                st.integers(0, 2**64 - 1),
                st.integers(0, 255),
            ),
            st.sampled_from([MESSAGE, MESSAGE.upper(), "hw=" + "a" * 32, "", "\ud800"]),
        ),
        max_size=4,
    ),
    parents.map(lambda parent: {**written(NonRecordingSpan(parent)), "hopwatch-id": MESSAGE}),
)


def received(
    begun: tuple[LeanSpan, Context] | None, own: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], SpanContext] | None:
    """Return all that is known of a span begun for a message, and of the context it is handled in."""
    if begun is None:
        return None
    span, context = begun
    assert context.get(trace.propagation._SPAN_KEY) is span
    assert type(context) is Context
    assert span.is_recording()
    assert abs(time_ns() - span._start_time) < 60_000_000_000
    others = {key: value for key, value in context.items() if value is not span}
    return slots(span, LeanSpan, "_start_time"), others, dict(own), span.get_span_context()


def slots(of: object, kind: type[Any], *but: str) -> dict[str, Any]:
    """Return what is in the slots of an instance, but for some; what is in none is left out."""
    found = {name: getattr(of, name) for name in kind.__slots__ if name not in but and hasattr(of, name)}
    return {name: dict(value) if type(value) is dict else value for name, value in found.items()}


@given(carriers, attributes, st.integers(), st.sampled_from([SpanKind.CONSUMER, SpanKind.SERVER]))
def test_what_was_sent_to_us_begins_alike_in_both_languages(
    carrier: dict[str, str] | None, described: dict[str, Any], seed: int, kind: SpanKind
) -> None:
    """Span, context and attributes that C makes of headers are those that Python makes of them."""
    tracer = own(LeanTracerProvider(RESOURCE, sampler=DEFAULT_ON))
    seen = []
    for begin in (tracer.quick_receive, tracer._receive):
        said = dict(described)
        random.seed(seed)
        begun = begin(PLACE, kind, carrier, header_getter, said)
        seen.append(received(begun, said))
    assert seen[0] == seen[1]


class Refusing(Kept):
    """An outlet that fails."""

    def __init__(self) -> None:
        self.spans = []

    def put(self, span: LeanSpan | LeanSend) -> None:  # type: ignore[override]  # it is a method here
        """Fail."""
        raise ValueError("no")


class Queue:
    """Our own queue, which nobody empties; to the third span it says that the thread is to be stirred."""

    def __new__(cls) -> SpanQueue:  # type: ignore[misc]  # it is made ready, and is what it is
        """Return one."""
        queue = SpanQueue(ExportSettings(), RESOURCE)
        queue._thread, queue._stir_at = current_thread(), 2
        return queue


def got(outlet: Any) -> list[Any]:
    """Return what an outlet has got: what kind of hop, or how many bytes."""
    waiting = list(outlet._ended)[1::2] if isinstance(outlet, SpanQueue) else getattr(outlet, "spans", [])
    return [len(one) if isinstance(one, bytes) else type(one) for one in waiting]


outlets = st.sampled_from([Kept, Refusing, Queue, type(None)])


def attempted(hop: ProcessHop | None, here: Context | None) -> Any:
    """Return all that is known of an attempt, of its span, and of where it is current and in progress."""
    if hop is None:
        return None
    span = hop._span
    assert isinstance(span, LeanSpan)
    assert abs(time_ns() - span._start_time) < 60_000_000_000
    assert abs(monotonic() - hop.started) < 60
    assert hop._attributes is span._own
    others = {key: value for key, value in hop.context.items() if value is not span}
    where = get_current() is hop.context, get_current() is here, reporter.in_progress.get(id(hop)) is hop
    told = slots(hop, ProcessHop, "_span", "context", "started")
    written = slots(span, LeanSpan, "_start_time", "_end_time", "_noted", "_status")
    noted = [event.attributes["exception.message"] for event in span._noted or ()]
    status = span._status.status_code, span._status.description
    return told, others, where, span.end_time is None, written, noted, status


@given(
    carriers,
    attributes,
    st.integers(),
    st.sampled_from([None, SettleOutcome.AUTO]),
    st.booleans(),
    st.sampled_from([None, SettleOutcome.ACK]),
    st.sampled_from(["returns", "fails", "is gone"]),
    outlets,
)
def test_an_attempt_is_the_same_in_both_languages(
    carrier: dict[str, str] | None,
    described: dict[str, Any],
    seed: int,
    settled: SettleOutcome | None,
    attach: bool,
    later: SettleOutcome | None,
    ends: str,
    outlet: Any,
) -> None:
    """From its beginning, by its settlement, to its end: hop, span, context and what the outlet got."""
    seen = []
    here = get_current()
    tracer = own(LeanTracerProvider(RESOURCE, sampler=DEFAULT_ON))
    for quick in (True, False):
        tracer.provider.outlet = outlet()
        random.seed(seed)
        begin = tracer.quick_process if quick else tracer._attempt
        with patch("hopwatch.hops.native", native if quick else None):
            hop = begin(PLACE, carrier, header_getter, dict(described), settled, here if attach else None)
            told = [attempted(hop, here)]
            if hop is not None:
                if later is not None:
                    hop.settled(later)
                if ends == "is gone":
                    make_current(Context())
                hop.end(ValueError("broken") if ends == "fails" else None)
                told.append(attempted(hop, here))
                hop.end()  # only the first counts
                assert hop.ended
                assert hop not in reporter.in_progress.values()
        make_current(here)
        seen.append((told, got(tracer.provider.outlet)))
    assert seen[0] == seen[1]


@given(attributes, positions, st.sampled_from(PublishOutcome), outlets)
def test_a_send_ends_alike_in_both_languages(
    described: dict[str, Any],
    position: KafkaPosition | StreamPosition | None,
    outcome: PublishOutcome,
    outlet: Any,
) -> None:
    """Whatever became of it, and whether what ended can be handed on or not."""
    seen = []
    tracer = own(LeanTracerProvider(RESOURCE, sampler=DEFAULT_ON))
    for native_or_none in (native, None):
        tracer.provider.outlet = outlet()
        for end_as in (outcome, PublishOutcome.SENT):
            random.seed(7)
            send = tracer._send(PLACE, Context(), dict(described), MESSAGE, {}, default_setter)
            if send is None:
                return
            with patch("hopwatch.lean.sent.native", native_or_none):
                send.end(end_as, position=position)
                send.end(PublishOutcome.REFUSED)  # only the first counts
            grown, told = send._grown is not None, slots(send, LeanSend, "start_time", "end_time", "_grown")
            seen.append((told, grown, send.end_time is None))
        seen.append(got(tracer.provider.outlet))
    assert seen[:3] == seen[3:]


def test_our_queue_counts_what_it_cannot_take_or_write() -> None:
    """Whether what ends finds the bound reached, or has no place in OTLP: C hands it to the one who counts."""
    queue = SpanQueue(ExportSettings(), RESOURCE)
    queue._thread, queue._stir_at, queue._room = current_thread(), 10, 2
    tracer = own(LeanTracerProvider(RESOURCE, queue, sampler=DEFAULT_ON))
    for start in (1, 1, 1, -1):
        queue._room += start < 0 and 5
        send = tracer.quick_send(PLACE, Context(), {}, MESSAGE, {}, default_setter)
        assert send is not None
        send.start_time = start
        send.end(PublishOutcome.CONFIRMED)
    assert len(queue._ended) == 4
    assert queue.stats().dropped == {Loss.FULL: 1, Loss.UNENCODABLE: 1}


class ByName(Setter[dict[str, str]]):
    """A setter that knows no more than it must."""

    def set(self, carrier: dict[str, str], key: str, value: str) -> None:
        """Set it, in capitals."""
        carrier[key.upper()] = value


@given(
    contexts,
    attributes,
    st.integers(),
    st.none() | flows | st.just("own") | st.just(7),
    st.booleans(),
    st.sampled_from(
        [(dict, default_setter), (dict, ByName()), (list, kafka_setter), (Headers, default_setter)]
    ),
)
def test_a_send_begins_alike_in_both_languages(
    parent: SpanContext | None,
    described: dict[str, Any],
    seed: int,
    flow: Any,
    keys: bool,
    carried: tuple[type[Any], Setter[Any]],
) -> None:
    """The send that C makes is the one that Python makes, headers included, or both leave it to the ordinary way."""
    carriers, setter = carried
    tracer = own(
        LeanTracerProvider(RESOURCE, sampler=DEFAULT_ON, limits=SpanLimits(max_span_attributes=1_000))
    )
    seen = []
    context = with_more(around(parent), flow, keys)
    for begin in (tracer.quick_send, tracer._send):
        carrier = carriers()
        random.seed(seed)
        send = begin(PLACE, context, dict(described), MESSAGE, carrier, setter)
        seen.append((carrier, random.random(), send and slots(send, LeanSend, "start_time")))
        assert send is None or abs(time_ns() - send.start_time) < 60_000_000_000
    assert seen[0] == seen[1]


@given(contexts, attributes, st.integers(), positions, st.sampled_from(sorted(set(PublishOutcome) - BAD)))
def test_a_send_is_encoded_as_the_span_it_is(
    parent: SpanContext | None,
    described: dict[str, Any],
    seed: int,
    position: KafkaPosition | StreamPosition | None,
    outcome: PublishOutcome,
) -> None:
    """Written in fewer steps, a send has every id, flag, attribute and time of the span that `start_span` makes."""
    kept = Kept()
    tracer = own(LeanTracerProvider(RESOURCE, kept, sampler=DEFAULT_ON))
    described = {name: value for name, value in described.items() if name not in PLACE.attributes}
    said = {MESSAGE_ID: MESSAGE, **described, **(position.attributes() if position else {})}
    random.seed(seed)
    ordinary = tracer.start_span(
        "send orders",
        around(parent),
        SpanKind.PRODUCER,
        Ready({**PLACE.attributes, **said, PUBLISH_OUTCOME: outcome.value}),
    )
    random.seed(seed)
    send = tracer.quick_send(PLACE, around(parent), dict(described), MESSAGE, {}, default_setter)
    state = parent is not None and parent.trace_state
    sampled = parent is None or (parent.is_valid and parent.trace_flags.sampled)
    assert (send is not None) == (sampled and not state and len(described) + len(PLACE.attributes) <= 124)
    if send is not None:
        assert send.traceparent() == written(ordinary)["traceparent"]
        send.end(outcome, position=position)
        send.end(PublishOutcome.REFUSED)  # only the first counts
        [record] = kept.spans
        assert record is send
        ordinary.end(send.end_time)
        ordinary._start_time = send.start_time
        assert encoded(send, times=True) == encoded(send.span(), times=True) == encoded(ordinary, times=True)


@given(st.sampled_from(sorted(BAD)), st.booleans())
def test_a_send_of_which_more_is_said_is_a_span(outcome: PublishOutcome, addressed: bool) -> None:
    """A failure, a late address or attribute, a processor set meanwhile: each goes to the span that the send becomes."""
    kept = Kept()
    provider = LeanTracerProvider(RESOURCE, kept, sampler=DEFAULT_ON)
    send = own(provider).quick_send(PLACE, Context(), {"a": 1}, MESSAGE, {}, default_setter)
    assert send is not None
    if addressed:
        send.address("send", Destination("elsewhere", "elsewhere"))
        send.set({"b": 2})
    send.end(outcome, error=ValueError("no"))
    send.end(PublishOutcome.CONFIRMED)
    [span] = kept.spans
    assert isinstance(span, LeanSpan)
    assert f"{span._trace_id:032x}" in send.traceparent()
    assert span.attributes is not None
    assert span.attributes[PUBLISH_OUTCOME] == outcome.value
    assert span.attributes[ERROR_TYPE] == "ValueError"
    assert span.attributes["messaging.destination.name"] == ("elsewhere" if addressed else "orders")
    assert ("b" in span.attributes) == addressed
    assert span.name == ("send elsewhere" if addressed else "send orders")


def test_a_processor_added_during_a_send_sees_it_end() -> None:
    """It had not been there when the send began."""
    provider = LeanTracerProvider(RESOURCE, Kept(), sampler=DEFAULT_ON)
    send = own(provider).quick_send(PLACE, Context(), {}, MESSAGE, {}, default_setter)
    assert send is not None
    watching = Watching()
    provider.add_span_processor(watching)
    send.end(PublishOutcome.CONFIRMED)
    assert watching.ended == ["send orders"]


@given(attributes, attributes, st.sampled_from(["messaging.system", "own"]))
def test_what_hops_share_stays_as_it_is(
    described: dict[str, Any], added: dict[str, Any], changed: str
) -> None:
    """What is set on a quick span, even over what it shares with others, is its own, like on any span."""
    tracer = own(LeanTracerProvider(RESOURCE, sampler=DEFAULT_ON, limits=SpanLimits(max_span_attributes=34)))
    described = dict(list(described.items())[:20])
    shared = dict(PLACE.attributes)
    quick = tracer.quick(PLACE, SENDER, SpanKind.CONSUMER, dict(described))
    assert quick is not None
    ordinary = tracer.start_span(
        "send orders", around(SENDER), SpanKind.CONSUMER, Ready({**shared, **described})
    )
    for span in (quick, ordinary):
        span.set_attribute("own", 1)
        span.set_attributes(added)
        span.set_attribute(changed, "changed")
        span.update_name("another")
    assert dict(quick.attributes or {}) == dict(ordinary.attributes or {})
    assert quick.dropped_attributes == ordinary.dropped_attributes
    assert encoded(quick) == encoded(ordinary)
    assert PLACE.attributes == shared


@given(contexts, st.none() | flows, st.integers(), st.sampled_from(PublishOutcome))
def test_a_recorder_tells_the_same_either_way(
    parent: SpanContext | None, flow: str | None, seed: int, outcome: PublishOutcome
) -> None:
    """A send and the attempt at it, with headers and spans, do not depend on the lane."""
    assert recorded(parent, flow, seed, outcome, quick=True) == recorded(
        parent, flow, seed, outcome, quick=False
    )


def recorded(
    parent: SpanContext | None, flow: str | None, seed: int, outcome: PublishOutcome, *, quick: bool
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Record a send and an attempt at it; return its headers and the spans."""
    kept = Kept()
    recorder = Recorder(System.KAFKA, own(LeanTracerProvider(RESOURCE, kept, sampler=DEFAULT_ON)))
    if not quick:
        recorder._quick_process, recorder._quick_send = never_quick_process, never_quick_send
    random.seed(seed)
    context = around(parent) if flow is None else Context({**around(parent), FLOW_KEY: flow})
    carrier: dict[str, str] = {}
    sent = recorder.send("send", ORDERS, carrier=carrier, context=context, message_id=MESSAGE)
    sent.end(outcome, position=KafkaPosition(0, 17), reason="as told" if seed % 2 else "")
    for came_with in (carrier, {}, None):
        hop = recorder.process(
            "process", ORDERS, receiver="till", carrier=came_with, attach=False, getter=header_getter
        )
        onward: dict[str, str] = {}
        recorder.send("send", ORDERS, carrier=onward, context=hop.context, message_id=MESSAGE).end(outcome)
        carrier |= {f"onward {name}": value for name, value in onward.items()}
        hop.settled(SettleOutcome.ACK)
        hop.end(ValueError("broken") if seed % 3 == 0 else None)
    spans = [ended.span() if isinstance(ended, LeanSend) else ended for ended in kept.spans]
    for span in spans:
        assert span.end_time is not None
        for event in span._noted or ():
            event.attributes.pop("exception.stacktrace", None)
    return carrier, [without_times(told(span)) for span in spans]


@given(contexts, st.none() | flows, st.integers())
def test_calls_tell_the_same_either_way(parent: SpanContext | None, flow: str | None, seed: int) -> None:
    """A call and the answer to it, with headers and spans, do not depend on the lane."""
    assert called(parent, flow, seed, quick=True) == called(parent, flow, seed, quick=False)


def called(
    parent: SpanContext | None, flow: str | None, seed: int, *, quick: bool
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Call, and answer what was called, with and without ids; return the headers and the spans."""
    kept = Kept()
    calls = Calls(own(LeanTracerProvider(RESOURCE, kept, sampler=DEFAULT_ON)))
    if not quick:
        calls._quick, calls._quick_receive = never_quick, never_quick_receive
    context = around(parent) if flow is None else Context({**around(parent), FLOW_KEY: flow})
    headers: dict[str, str] = {}
    with patch(
        "hopwatch.calls.new_message_id", return_value=MESSAGE
    ):  # ids and spans draw from one generator
        random.seed(seed)
        token = attach(context)
        hop = calls.call("shop/Pay", {"own": 1}, headers, default_setter, place=PAY)
        detach(token)
        for came_with in (headers, {}):
            answer = calls.serve("shop/Pay", {"peer": "till"}, came_with, header_getter, place=PAY)
            answer.end({"status": "OK"}, error=ValueError("broken") if seed % 3 == 0 else None)
        hop.end({"status": "UNAVAILABLE"}, error_type="UNAVAILABLE", outcome=PublishOutcome.RETURNED)
    spans = [span for span in kept.spans if isinstance(span, LeanSpan)]
    for span in spans:
        for event in span._noted or ():
            event.attributes.pop("exception.stacktrace", None)
    return headers, [without_times(told(span)) for span in spans]


def without_times(said: dict[str, Any]) -> dict[str, Any]:
    """Leave out when events were."""
    return {**said, "events": [{**event, "timestamp": None} for event in said["events"]]}


def with_more(context: Context, flow: Any, keys: bool) -> Context:
    """Return a context in which there is a flow ("own": that of its trace) and a business key besides."""
    if flow == "own":
        flow = f"{trace.get_current_span(context).get_span_context().trace_id:032x}"
    known = dict(context) if flow is None else {**context, FLOW_KEY: flow}
    return baggage.set_baggage("hopwatch.order", "17", Context(known)) if keys else Context(known)


class Watching(SpanProcessor):
    """A processor of the application's."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Note it."""
        self.ended.append(span.name)


@pytest.fixture
def in_force(monkeypatch: pytest.MonkeyPatch) -> Iterator[SdkTracerProvider]:
    """The application's own provider, set after ours."""
    provider = SdkTracerProvider()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield provider
    provider.shutdown()


def asked(provider: LeanTracerProvider, scope: str = "hopwatch.kafka") -> LeanSpan | None:
    """Ask a provider for a quick span, and for a quick send."""
    tracer = provider.get_tracer(scope)
    assert isinstance(tracer, LeanTracer)
    span = tracer.quick(PLACE, SENDER, SpanKind.CONSUMER, {"a": 1, "b": 2})
    carrier: dict[str, str] = {}
    send = tracer.quick_send(PLACE, Context(), {"a": 1, "b": 2}, MESSAGE, carrier, default_setter)
    hop = tracer.quick_process(PLACE, {}, header_getter, {"a": 1, "b": 2}, None, None)
    assert (span is None) == (send is None) == (not carrier) == (hop is None)
    if hop is not None:
        assert reporter.in_progress.pop(id(hop)) is hop
    return span


def test_nothing_unusual_is_passed_by() -> None:
    """A sampler that has to be asked, a tight limit, a processor or another library's tracer each close the quick lane."""
    assert asked(LeanTracerProvider(RESOURCE, sampler=DEFAULT_ON)) is not None
    assert asked(LeanTracerProvider(RESOURCE, sampler=ALWAYS_ON)) is not None
    assert asked(LeanTracerProvider(RESOURCE, sampler=TraceIdRatioBased(1.0))) is None
    few, short = SpanLimits(max_span_attributes=12), SpanLimits(max_span_attribute_length=5)
    assert asked(LeanTracerProvider(RESOURCE, sampler=DEFAULT_ON, limits=few)) is None
    assert asked(LeanTracerProvider(RESOURCE, sampler=DEFAULT_ON, limits=short)) is None
    assert asked(LeanTracerProvider(RESOURCE, sampler=DEFAULT_ON), "contrib") is None
    watched = LeanTracerProvider(RESOURCE, sampler=DEFAULT_ON)
    watched.add_span_processor(Watching())
    assert asked(watched) is None


def test_a_provider_set_later_gets_the_recorder_s_spans(in_force: SdkTracerProvider) -> None:
    """Ours stands in until the application sets its own: then the quick lane is closed, without a word to anyone."""
    ours = LeanTracerProvider(RESOURCE, sampler=DEFAULT_ON, stands_in=True)
    assert asked(ours) is None
    span = own(ours).start_span("send orders", Context(), SpanKind.PRODUCER, Ready())
    assert not isinstance(span, LeanSpan)
