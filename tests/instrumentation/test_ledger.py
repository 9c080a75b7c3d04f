"""The ledger is told whatever a sampler says: on hopwatch's own provider; an application's own keeps its sampler's word."""

import time
import uuid
from collections.abc import Callable
from typing import Any, cast

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from support.sink import Sink, run_code

from hopwatch import reports
from hopwatch.conventions import (
    LEDGER,
    LEDGER_RATIO,
    MESSAGE_ID_HEADER,
    MESSAGING_OPERATION_TYPE,
    REPORT,
    PublishOutcome,
    SettleOutcome,
    System,
)
from hopwatch.lean.encode import encoded
from hopwatch.lean.provider import LeanTracerProvider, Outlet
from hopwatch.lean.sent import LeanSend
from hopwatch.lean.span import LeanSpan
from hopwatch.recorder import Destination, KafkaPosition, Recorder
from hopwatch_demo.patience import scale_wait

pytestmark = pytest.mark.usefixtures("spans")
PLACE = Destination("orders", "orders")
SAMPLED, UNSAMPLED = TraceFlags(1), TraceFlags(0)


class Asked(Sampler):
    """A sampler of a team's own, which takes nothing and says nothing of it beforehand."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        """Drop it."""
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        """Who this is."""
        return "Asked"


class Kept:
    """An outlet that keeps ended spans as they go out."""

    def __init__(self) -> None:
        self.spans: list[LeanSpan | LeanSend] = []
        self.put = self.spans.append

    def told(self) -> list[str]:
        """Return the kinds of what went out, in the order of its ends."""
        spans = [span.span() if isinstance(span, LeanSend) else span for span in self.spans]
        return [
            str((span.attributes or {}).get(REPORT) or (span.attributes or {})[MESSAGING_OPERATION_TYPE])
            for span in spans
        ]


@pytest.fixture
def kept() -> Kept:
    """Where spans go."""
    return Kept()


Provide = Callable[..., LeanTracerProvider]


@pytest.fixture
def provide(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> Provide:
    """A function that puts a provider of ours with some sampler in force."""

    def put(sampler: Sampler) -> LeanTracerProvider:
        provider = LeanTracerProvider(
            Resource({"service.name": "under-test"}), cast(Outlet, kept), sampler=sampler
        )
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
        return provider

    return put


def recorder() -> Recorder:
    """A recorder at the provider in force."""
    return Recorder(System.KAFKA, trace.get_tracer("hopwatch.test"))


def above(flags: TraceFlags | None) -> Context:
    """Return a context below a remote parent with these flags, or below none."""
    if flags is None:
        return Context()
    return trace.set_span_in_context(NonRecordingSpan(SpanContext(7, 8, True, flags)), Context())


def tell_everything(recorder: Recorder, parent: Context) -> dict[str, str]:
    """Send, process, settle, commit, subscribe and skip; return the headers of what was sent."""
    sent: dict[str, str] = {}
    arrived: dict[str, str] = {}
    send = recorder.send("send", PLACE, carrier=sent, context=parent)
    send.end(PublishOutcome.CONFIRMED, position=KafkaPosition(0, 1))
    TraceContextTextMapPropagator().inject(arrived, parent)
    hop = recorder.process("process", PLACE, receiver="billing", carrier=arrived, attach=False)
    hop.report()
    hop.end()
    hop.settled(SettleOutcome.ACK)
    recorder.commit(PLACE, receiver="billing", partition=0, offset=2)
    recorder.subscribed("orders", receiver="billing", durable=True)
    recorder.skipped(PLACE, receiver="billing", partition=0, first=2, until=4)
    return sent


EVERYTHING = ["send", "open", "process", "settle", "settle", "subscribe", "skip"]


@pytest.mark.parametrize(
    "sampler",
    [
        DEFAULT_ON,
        DEFAULT_OFF,
        ALWAYS_OFF,
        TraceIdRatioBased(0.0),
        ParentBasedTraceIdRatio(0.0),
        ParentBased(ALWAYS_ON, remote_parent_not_sampled=Asked()),
        Asked(),
    ],
    ids=lambda sampler: sampler.get_description()[:40],
)
def test_all_of_the_ledger_goes_out_whatever_the_sampler_says(
    provide: Provide, kept: Kept, sampler: Sampler
) -> None:
    """Below a parent that is not sampled hops are told as unsampled, and what travels on says so too."""
    provide(sampler)
    sent = tell_everything(recorder(), above(UNSAMPLED))
    assert kept.told() == EVERYTHING
    assert sent["traceparent"].endswith("-00")
    assert sent["traceparent"][3:35] == f"{7:032x}"
    assert MESSAGE_ID_HEADER in sent
    for span in kept.spans[:4]:
        assert flags_of(encoded(span)) & 0xFF == 0


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, TraceIdRatioBased(0.0), Asked()])
def test_what_begins_a_trace_that_is_not_sampled_is_told_as_such(
    provide: Provide, kept: Kept, sampler: Sampler
) -> None:
    """Roots too: the trace's other spans are left out, its messages are not."""
    provide(sampler)
    sent = tell_everything(recorder(), above(None))
    assert kept.told() == EVERYTHING
    assert int(sent["traceparent"][-2:], 16) & 1 == 0
    assert {flags_of(encoded(span)) & 1 for span in kept.spans} == {0}


@pytest.mark.parametrize(
    "sampler", [DEFAULT_ON, ALWAYS_ON, StaticSampler(Decision.RECORD_AND_SAMPLE), TraceIdRatioBased(1.0)]
)
def test_what_is_sampled_says_so(provide: Provide, kept: Kept, sampler: Sampler) -> None:
    """The flags of a span are those that travel on with its message."""
    provide(sampler)
    sent = tell_everything(recorder(), above(SAMPLED))
    assert kept.told() == EVERYTHING
    assert sent["traceparent"].endswith("-01")
    assert {flags_of(encoded(span)) & 1 for span in kept.spans} == {1}
    assert [flags_of(encoded(span)) & 0x300 for span in kept.spans[:2]] == [0x300, 0x100]


def flags_of(field: bytes) -> int:
    """Return the flags at the end of an encoded span."""
    return int.from_bytes(field[-4:], "little")


@pytest.mark.parametrize("sampler", [DEFAULT_ON, ALWAYS_OFF, Asked()])
def test_calls_follow_the_sampler(provide: Provide, kept: Kept, sampler: Sampler) -> None:
    """What is no message is recorded as sampled, below an unsampled message too."""
    provide(sampler)
    carrier: dict[str, str] = {"traceparent": f"00-{7:032x}-{8:016x}-00"}
    hop = recorder().process("process", PLACE, receiver="billing", carrier=carrier)
    trace.get_tracer("hopwatch.httpx").start_span("GET").end()
    trace.get_tracer("the.application").start_span("work").end()
    hop.end()
    assert kept.told() == ["process"]


@pytest.mark.parametrize("sampler", [DEFAULT_ON, ALWAYS_OFF, Asked()])
def test_the_ledger_follows_the_sampler_where_that_is_asked_for(
    provide: Provide, kept: Kept, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`HOPWATCH_LEDGER=sampled` leaves out what the sampler does; ids travel all the same."""
    monkeypatch.setenv("HOPWATCH_LEDGER", "sampled")
    provide(sampler)
    sent = tell_everything(recorder(), above(UNSAMPLED))
    assert set(kept.told()) <= {"settle", "subscribe", "skip"}  # which are roots of their own
    assert sent["traceparent"].endswith("-00")
    assert MESSAGE_ID_HEADER in sent


def test_an_exporter_that_was_added_leaves_out_what_is_not_sampled(provide: Provide, kept: Kept) -> None:
    """The SDK's processors go by the span's flags, and those say what the sampler decided."""
    others = InMemorySpanExporter()
    provide(DEFAULT_ON).add_span_processor(SimpleSpanProcessor(others))
    tell_everything(recorder(), above(UNSAMPLED))
    assert kept.told() == EVERYTHING
    told = [span.name for span in others.get_finished_spans()]
    assert told == [
        "commit orders",
        "subscribe orders",
        "skip orders",
    ]  # roots of their own, which are sampled


class Words:
    """What subscription reports say of the ledger."""

    def __init__(self, spans: list[ReadableSpan]) -> None:
        [report] = [span for span in spans if (span.attributes or {}).get(REPORT) == "subscribe"]
        attributes = report.attributes or {}
        self.ledger, self.ratio = attributes.get(LEDGER), attributes.get(LEDGER_RATIO)


def test_our_own_provider_tells_that_it_tells_everything(provide: Provide, kept: Kept) -> None:
    """Silence is evidence then."""
    provide(TraceIdRatioBased(0.0))
    tell_everything(recorder(), above(None))
    words = Words([span for span in kept.spans if isinstance(span, LeanSpan)])
    assert (words.ledger, words.ratio) == ("whole", None)


@pytest.mark.parametrize(
    ("sampler", "ledger", "ratio"),
    [
        (ALWAYS_ON, "whole", None),
        (DEFAULT_ON, "parent", None),
        (TraceIdRatioBased(0.25), "sampled", 0.25),
        (ParentBasedTraceIdRatio(0.5), "sampled", 0.5),
    ],
)
@pytest.mark.parametrize("whose", ["an application's", "ours, which follows the sampler"])
def test_who_follows_a_sampler_tells_so_with_its_subscriptions(
    provide: Provide,
    kept: Kept,
    sampler: Sampler,
    ledger: str,
    ratio: float | None,
    whose: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And by what ratio, where the sampler is one of the SDK's."""
    memory = InMemorySpanExporter()
    if whose == "an application's":
        own = SdkTracerProvider(sampler=sampler, shutdown_on_exit=False)
        own.add_span_processor(SimpleSpanProcessor(memory))
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", own)
    else:
        monkeypatch.setenv("HOPWATCH_LEDGER", "sampled")
        provide(sampler)
    for number in range(200):  # the sampler's word is kept for these too, and it takes some of them
        recorder().subscribed(f"orders.{number}", receiver="billing", durable=True)
    spans = [*memory.get_finished_spans(), *(span for span in kept.spans if isinstance(span, LeanSpan))]
    assert spans
    words = Words(spans[:1])
    assert (words.ledger, words.ratio) == (ledger, ratio)


def test_a_provider_set_later_keeps_its_sampler_s_word(
    provide: Provide, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recorder made before tells of the application's sampler from then on, and records what that takes."""
    ours = LeanTracerProvider(Resource({}), cast(Outlet, kept), sampler=DEFAULT_ON, stands_in=True)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", ours)
    early = recorder()
    memory = InMemorySpanExporter()
    own = SdkTracerProvider(sampler=DEFAULT_ON, shutdown_on_exit=False)
    own.add_span_processor(SimpleSpanProcessor(memory))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", own)
    tell_everything(early, above(UNSAMPLED))
    assert kept.spans == []
    assert [span.name for span in memory.get_finished_spans()] == [
        "commit orders",
        "subscribe orders",
        "skip orders",
    ]
    assert Words([*memory.get_finished_spans()]).ledger == "parent"


def test_subscriptions_go_on_being_reported(
    provide: Provide, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a sampler that takes nothing, too."""
    monkeypatch.setattr(reports, "SUBSCRIBE_EVERY_S", 0.1)
    provide(ALWAYS_OFF)
    recorder().subscribed("orders", receiver="billing", durable=True)
    deadline = time.monotonic() + scale_wait(20)
    while len(kept.spans) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert kept.told()[:2] == ["subscribe", "subscribe"]


@pytest.fixture
def unique() -> str:
    """A subject that no other test uses."""
    return f"ledger-{uuid.uuid4().hex[:8]}"


PUBLISH = """
import asyncio, os, nats
import hopwatch
hopwatch.instrument(service="orders")
async def main():
    async with await nats.connect(os.environ["NATS"], connect_timeout=60) as client:
        subscription = await client.subscribe(os.environ["TOPIC"])
        await client.publish(os.environ["TOPIC"], b"one")
        message = await subscription.next_msg(timeout=60)
        print(message.headers["traceparent"][-2:], os.environ.get("HOPWATCH_LEDGER"))
asyncio.run(main())
"""


@pytest.mark.parametrize("pure", ["", "1"], ids=["C where it is built", "Python"])
@pytest.mark.parametrize("said", ["whole", "sampled"])
def test_a_process_tells_its_messages_with_sampling_off(
    nats_url: str, unique: str, said: str, pure: str
) -> None:
    """From its environment to the collector; `sampled` is as it was before."""
    with Sink() as sink:
        done = run_code(
            PUBLISH,
            endpoint=sink.url,
            NATS=nats_url,
            TOPIC=unique,
            OTEL_TRACES_SAMPLER="always_off",
            HOPWATCH_LEDGER=said,
            HOPWATCH_PURE_PYTHON=pure,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert int(done.stdout.split()[0], 16) & 1 == 0
        told = {span.name.split()[0] for _, span in sink.spans()}
        assert told == ({"publish", "process", "subscribe", "unsubscribe"} if said == "whole" else set())
        assert {span.flags & 1 for _, span in sink.spans()} <= {0}


def test_a_misspelt_ledger_is_said(nats_url: str, unique: str) -> None:
    """It has no effect, and the person who starts the process learns of it."""
    with Sink() as sink:
        done = run_code(PUBLISH, endpoint=sink.url, NATS=nats_url, TOPIC=unique, HOPWATCH_LEDGER="all")
        assert done.returncode == 0
        assert "HOPWATCH_LEDGER='all' is neither whole nor sampled" in done.stderr
        assert sink.spans()
