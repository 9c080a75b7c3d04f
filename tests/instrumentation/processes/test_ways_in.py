"""Every way of turning hopwatch on, and every provider it may meet: spans go to one place, once."""

import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from support.sink import Sink, run_code

from hopwatch_demo.patience import scale_wait

OTEL_INSTRUMENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))

SDK_OVER_HTTP = {
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
}

SEND_TO_KAFKA = """
import asyncio, os
from aiokafka import AIOKafkaProducer
async def main():
    async with AIOKafkaProducer(bootstrap_servers=os.environ["KAFKA"]) as producer:
        await producer.send_and_wait(os.environ["TOPIC"], b"one")
asyncio.run(main())
"""

OWN_PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
own = TracerProvider(resource=Resource({"service.name": "theirs"}))
own.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(own)
"""

INSTRUMENT = "import hopwatch\nhopwatch.instrument(service='ours')\n"

PUBLISH = """
import asyncio, os, nats
async def main():
    async with await nats.connect(os.environ["NATS"], connect_timeout=60) as client:
        await client.publish(os.environ["TOPIC"], b"one")
        await client.flush()
asyncio.run(main())
"""


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A running OTLP receiver."""
    with Sink() as running:
        yield running


@pytest.fixture
def topic() -> str:
    """A name of this test's own."""
    return f"ways-{uuid.uuid4().hex[:8]}"


def test_opentelemetry_instrument_records_each_send_once(
    sink: Sink, kafka_bootstrap: str, topic: str
) -> None:
    """Of two instrumentations of a library ours is used, and its spans go to the provider that is there."""
    settings = SDK_OVER_HTTP | {"KAFKA": kafka_bootstrap, "TOPIC": topic, "OTEL_SERVICE_NAME": "orders"}
    done = run_code(SEND_TO_KAFKA, OTEL_INSTRUMENT, endpoint=sink.url, **settings)
    assert done.returncode == 0, done.stderr
    sent = [(scope, span.name) for _, scope, span in sink.received() if topic in span.name]
    assert sent == [("hopwatch.aiokafka", f"send {topic}")]
    assert {service for service, _ in sink.spans()} == {"orders"}


def test_opentelemetry_instrument_without_a_provider_gets_ours(
    sink: Sink, kafka_bootstrap: str, topic: str
) -> None:
    """Where nothing configures an SDK, spans go through the lean pipeline."""
    settings = {"KAFKA": kafka_bootstrap, "TOPIC": topic, "OTEL_PYTHON_CONFIGURATOR": "none"}
    own = {"OTEL_SERVICE_NAME": "orders", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    done = run_code(SEND_TO_KAFKA, OTEL_INSTRUMENT, endpoint=sink.url, **settings, **own)
    assert done.returncode == 0, done.stderr
    sent = [(scope, span.name) for _, scope, span in sink.received() if topic in span.name]
    assert sent == [("hopwatch.aiokafka", f"send {topic}")]
    assert "hopwatch" in sink.headers[0]["user-agent"]


def test_what_is_disabled_stays_as_opentelemetry_has_it(sink: Sink, kafka_bootstrap: str, topic: str) -> None:
    """`hopwatch` among the disabled instrumentations leaves all to the others."""
    settings = SDK_OVER_HTTP | {"KAFKA": kafka_bootstrap, "TOPIC": topic}
    disabled = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "hopwatch"}
    done = run_code(SEND_TO_KAFKA, OTEL_INSTRUMENT, endpoint=sink.url, **settings, **disabled)
    assert done.returncode == 0, done.stderr
    assert sink.scopes() == {"opentelemetry.instrumentation.aiokafka"}


@pytest.mark.parametrize("order", ["before", "after", "after the first span"])
def test_an_applications_own_provider_gets_the_spans_once(
    sink: Sink, nats_url: str, topic: str, order: str
) -> None:
    """Whether it is set before or after `instrument`, spans go there from then on and nowhere else."""
    settings = {"NATS": nats_url, "TOPIC": topic}
    early = {
        "before": OWN_PROVIDER + INSTRUMENT,
        "after": INSTRUMENT + OWN_PROVIDER,
        "after the first span": INSTRUMENT + PUBLISH + OWN_PROVIDER,
    }[order]
    done = run_code(early + PUBLISH, endpoint=sink.url, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    services = Counter(service for service, _ in sink.spans())
    assert services == {"theirs": 1} | ({"ours": 1} if "first" in order else {})


def test_a_foreign_instrumentation_is_completed_at_a_later_provider(sink: Sink) -> None:
    """Spans that others start carry our ids at the provider that was set after `instrument`."""
    code = (
        INSTRUMENT
        + OWN_PROVIDER
        + """
from hopwatch.context import with_flow
tracer = trace.get_tracer_provider().get_tracer("some.library")
trace.get_tracer("hopwatch.test").start_span("ours").end()
tracer.start_span("theirs", with_flow("f" * 32), kind=trace.SpanKind.CLIENT).end()
"""
    )
    done = run_code(code, endpoint=sink.url)
    assert (done.returncode, done.stderr) == (0, "")
    flows = {span.name: [a.value.string_value for a in span.attributes] for _, span in sink.spans()}
    assert flows == {"ours": [], "theirs": ["f" * 32]}


def test_an_import_from_here_is_enough(sink: Sink, nats_url: str, topic: str) -> None:
    """`from hopwatch import nats` is nats-py, recorded; the service is named by the environment."""
    code = PUBLISH.replace("import asyncio, os, nats", "import asyncio, os\nfrom hopwatch import nats")
    settings = {"NATS": nats_url, "TOPIC": topic, "OTEL_SERVICE_NAME": "orders"}
    done = run_code(code, endpoint=sink.url, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert [(service, span.name) for service, span in sink.spans()] == [("orders", f"publish {topic}")]


def test_the_service_may_be_named_after_the_import(sink: Sink, nats_url: str, topic: str) -> None:
    """`instrument(service=…)` after a drop-in import still names it; spans before it had no name to have."""
    code = "from hopwatch import nats\n" + INSTRUMENT + PUBLISH.replace(", nats", "")
    done = run_code(code, endpoint=sink.url, NATS=nats_url, TOPIC=topic)
    assert (done.returncode, done.stderr) == (0, "")
    assert {service for service, _ in sink.spans()} == {"ours"}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("aio_pika", "connect_robust"),
        ("aiohttp", "ClientSession"),
        ("aiokafka", "AIOKafkaProducer"),
        ("fastapi", "FastAPI"),
        ("grpc", "insecure_channel"),
        ("httpx", "AsyncClient"),
        ("nats", "connect"),
        ("requests", "get"),
        ("starlette", "__version__"),
        ("websockets", "connect"),
    ],
)
def test_a_drop_in_is_the_library_itself(module: str, name: str) -> None:
    """Names are the library's own objects, those its `*` leaves out too."""
    code = f"""
import {module}
from hopwatch.{module} import {name}
assert {name} is {module}.{name}
import hopwatch.{module}
assert hopwatch.{module}.__name__ == "hopwatch.{module}"
try:
    hopwatch.{module}.no_such_name
except AttributeError:
    print("as it should be")
"""
    done = run_code(code, endpoint="http://127.0.0.1:9")
    assert (done.stdout, done.stderr) == ("as it should be\n", "")


def test_another_exporter_is_honoured(sink: Sink) -> None:
    """Spans asked for on the console go there, and not to the collector; with both, to both."""
    code = INSTRUMENT + "from opentelemetry import trace\ntrace.get_tracer('x').start_span('work').end()"
    done = run_code(code, endpoint=sink.url, OTEL_TRACES_EXPORTER="console")
    assert ('"name": "work"' in done.stdout, sink.requests) == (True, []), done.stderr
    done = run_code(code, endpoint=sink.url, OTEL_TRACES_EXPORTER="console,otlp")
    assert ('"name": "work"' in done.stdout, sink.names()) == (True, ["work"]), done.stderr


def test_otlp_over_grpc_is_honoured() -> None:
    """The SDK's gRPC exporter is used where the environment asks for the protocol."""
    received: list[ExportTraceServiceRequest] = []

    def export(request: ExportTraceServiceRequest, _: grpc.ServicerContext) -> ExportTraceServiceResponse:
        received.append(request)
        return ExportTraceServiceResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(1))
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        code = INSTRUMENT + "from opentelemetry import trace\ntrace.get_tracer('x').start_span('work').end()"
        done = run_code(code, endpoint=f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    finally:
        server.stop(None).wait()
    assert (done.returncode, done.stderr) == (0, "")
    assert [s.name for r in received for p in r.resource_spans for c in p.scope_spans for s in c.spans] == [
        "work"
    ]


def test_an_exporter_that_is_not_installed_is_said() -> None:
    """Nothing is exported in silence to nowhere."""
    done = run_code(INSTRUMENT, endpoint="http://127.0.0.1:9", OTEL_TRACES_EXPORTER="zipkin")
    assert "no spans are exported by 'zipkin'" in done.stderr


def test_no_exporter_means_none(sink: Sink) -> None:
    """OTEL_TRACES_EXPORTER=none records and propagates, and sends nothing."""
    code = (
        INSTRUMENT
        + "from opentelemetry import trace\nspan = trace.get_tracer('x').start_span('work')\n"
        + "print(span.is_recording(), hopwatch.stats())\nspan.end()"
    )
    done = run_code(code, endpoint=sink.url, OTEL_TRACES_EXPORTER="none")
    assert (done.stdout, done.stderr, sink.requests) == ("True None\n", "", [])


def test_the_lean_way_loads_neither_protobuf_nor_requests(sink: Sink) -> None:
    """What only the SDK's exporter needs is not imported, and `stats` tells what became of the spans."""
    code = INSTRUMENT + (
        "import sys\nfrom opentelemetry import trace\ntrace.get_tracer('x').start_span('work').end()\n"
        f"assert trace.get_tracer_provider().force_flush({scale_wait(20_000):.0f})\n"
        "print(sorted({'requests', 'google.protobuf', 'urllib3', 'asyncio.events'} & set(sys.modules) - {'asyncio.events'}))\n"
        "print(hopwatch.stats())"
    )
    done = run_code(code, endpoint=sink.url)
    assert done.stdout == "[]\nExportStats(delivered=1, waiting=0, dropped={})\n", done.stderr


def test_a_library_that_is_too_old_is_said_at_start(sink: Sink, tmp_path: Path) -> None:
    """An unsupported version is named on standard error, and the program runs on."""
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "__init__.py").write_text("")
    metadata = tmp_path / "nats_py-1.0.0.dist-info"
    metadata.mkdir()
    (metadata / "top_level.txt").write_text("nats\n")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: nats-py\nVersion: 1.0.0\n")
    code = INSTRUMENT + "import nats\nprint('running')"
    done = run_code(code, endpoint=sink.url, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "running\n")
    assert done.stderr.startswith("hopwatch: nats is not instrumented (nats-py 1.0.0"), done.stderr
