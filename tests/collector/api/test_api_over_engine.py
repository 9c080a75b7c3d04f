"""The API of a real collector: real queries over the embedded engine, asked politely and otherwise."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from support.process import inherited_environment

from hopwatch_collector.api.models import (
    DeliveryList,
    Flow,
    FlowList,
    Health,
    LagList,
    Live,
    Message,
    SearchResult,
    Topology,
)
from hopwatch_demo.patience import scale_wait

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

MESSAGE = "01890a5d-ac96-774b-bcce-b302099a8057"
UNROUTED = "01890a5d-ac96-774b-bcce-b302099a8058"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SENT = {
    "messaging.system": "rabbitmq",
    "messaging.operation.type": "send",
    "messaging.destination.name": "shop",
    "hopwatch.destination": "shop:orders.placed",
    "hopwatch.message.id": MESSAGE,
    "hopwatch.publish.outcome": "confirmed",
    "hopwatch.flow.id": TRACE,
    "hopwatch.key.order_id": "4711",
    "messaging.message.id": "invoices/2026/17",
}
PROCESSED = SENT | {
    "messaging.operation.type": "process",
    "hopwatch.receiver": "billing",
    "hopwatch.settle.outcome": "ack",
}
RETURNED = SENT | {
    "hopwatch.message.id": UNROUTED,
    "hopwatch.destination": "shop:nowhere",
    "hopwatch.publish.outcome": "returned",
    "messaging.message.id": "invoices/2026/18",
}


def request() -> bytes:
    """One message sent and settled, and one returned, in one trace."""
    sent, processed, returned = (os.urandom(8) for _ in range(3))
    now = time.time_ns()
    asked = ExportTraceServiceRequest()
    for service, spans in {
        "orders": [
            (sent, b"", "publish shop:orders.placed", OtlpSpan.SPAN_KIND_PRODUCER, SENT),
            (returned, b"", "publish shop:nowhere", OtlpSpan.SPAN_KIND_PRODUCER, RETURNED),
        ],
        "billing": [(processed, sent, "process shop:orders.placed", OtlpSpan.SPAN_KIND_CONSUMER, PROCESSED)],
    }.items():
        resource = asked.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = service
        scope = resource.scope_spans.add()
        for span_id, parent, name, kind, attributes in spans:
            span = scope.spans.add(
                trace_id=bytes.fromhex(TRACE),
                span_id=span_id,
                parent_span_id=parent,
                name=name,
                kind=kind,
                start_time_unix_nano=now,
                end_time_unix_nano=now + 10**6,
            )
            for key, value in attributes.items():
                span.attributes.add(key=key).value.string_value = value
    return asked.SerializeToString()


@dataclass(frozen=True, slots=True)
class Running:
    """A collector: its API's address, its process, its log."""

    api: str
    process: subprocess.Popen[bytes]
    log: Path


def wait(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """AssertionError naming `what` where `condition` does not come true in time."""
    end = time.monotonic() + scale_wait(seconds)
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector that has taken the two messages."""
    folder = tmp_path_factory.mktemp("collector")
    log, ready = folder / "stderr", folder / "stdout"
    command = [str(Path(sys.executable).with_name("hopwatch")), "collect", "--data", str(folder / "data")]
    command += ["--otlp-grpc-port=0", "--otlp-http-port=0", "--api-port=0"]
    quiet = inherited_environment()
    with log.open("wb") as err, ready.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=quiet)
    try:
        wait(
            lambda: ready.read_text().endswith("\n") or process.poll() is not None,
            "the collector is not ready",
        )
        assert process.poll() is None, log.read_text()
        at = dict(re.findall(r"([a-z-]+)=(\S+)", ready.read_text()))
        api = f"http://{at['api']}"
        headers = {"Content-Type": "application/x-protobuf"}
        sent = httpx.post(
            f"http://{at['otlp-http']}/v1/traces", content=request(), headers=headers, timeout=scale_wait(20)
        )
        assert sent.status_code == 200, sent.text
        wait(
            lambda: httpx.get(f"{api}/api/v1/messages/{UNROUTED}", timeout=scale_wait(20)).status_code == 200,
            log.read_text(),
        )
        yield Running(api, process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(scale_wait(30))
        process.kill()
        process.wait()


@pytest.fixture
def reader(collector: Running) -> Iterator[httpx.Client]:
    """A client of the collector's API."""
    with httpx.Client(base_url=collector.api, timeout=scale_wait(60), trust_env=False) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/api/v1/flows", FlowList),
        (f"/api/v1/flows/{TRACE}", Flow),
        (f"/api/v1/messages/{MESSAGE}", Message),
        ("/api/v1/deliveries", DeliveryList),
        ("/api/v1/deliveries?verdict=undelivered", DeliveryList),
        ("/api/v1/lag", LagList),
        ("/api/v1/topology?since=15m", Topology),
        ("/api/v1/search?q=order_id%3D4711", SearchResult),
        ("/api/v1/live/snapshot", Live),
        ("/healthz", Health),
        ("/readyz", Health),
    ],
)
def test_every_route_answers_as_documented(reader, path, model):
    """Nothing more and nothing less than its model: unknown fields would be errors."""
    response = reader.get(path)
    assert response.status_code == 200, response.text
    model.model_validate_json(response.content)


def test_a_settled_message_says_who_settled_it(reader):
    """Found by its id, with its delivery."""
    message = Message.model_validate_json(reader.get(f"/api/v1/messages/{MESSAGE}").content)
    [delivery] = message.deliveries
    assert (delivery.receiver, delivery.verdict, delivery.producer) == ("billing", "settled", "orders")
    assert message.keys == {"order_id": "4711"}


def test_a_message_is_found_by_its_alias_with_slashes(reader):
    """The application's own id leads to the same message."""
    response = reader.get("/api/v1/messages/invoices/2026/17")
    assert Message.model_validate_json(response.content).message_id == MESSAGE


def test_undelivered_shows_the_returned_message_and_not_the_settled_one(reader):
    """The filter is the set of verdicts."""
    deliveries = DeliveryList.model_validate_json(
        reader.get("/api/v1/deliveries?verdict=undelivered").content
    ).deliveries
    assert [(one.message_id, one.verdict) for one in deliveries] == [(UNROUTED, "returned")]


@pytest.mark.parametrize("query", [MESSAGE, TRACE, "4711", "order_id=4711", "invoices/2026/17"])
def test_search_finds_by_every_name(reader, query):
    """Ids, aliases, business keys."""
    found = SearchResult.model_validate_json(reader.get("/api/v1/search", params={"q": query}).content)
    assert found.hits, query
    assert TRACE in {hit.flow_id for hit in found.hits}


def test_limits_cut_off_and_say_so(reader):
    """One of two rows, and a word that there is more."""
    deliveries = DeliveryList.model_validate_json(reader.get("/api/v1/deliveries?limit=1").content)
    assert (len(deliveries.deliveries), deliveries.truncated) == (1, True)


def test_a_window_before_the_messages_is_empty(reader):
    """Times are honoured."""
    flows = reader.get("/api/v1/flows?since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z")
    assert FlowList.model_validate_json(flows.content).flows == []


HOSTILE = [
    "' OR 1=1 --",
    "\\'",
    "{x:String}",
    "%(x)s",
    "%",
    "_",
    "\x1b[2J",
    "\u202e",
    "=",
    "a=",
    "=b",
    "a\nb",
    "é" * 500,
]


@pytest.mark.parametrize("parameter", ["q", "service", "destination", "receiver"])
def test_hostile_filters_find_nothing_and_break_nothing(reader, parameter):
    """Text is bound as a parameter: it never becomes part of a statement."""
    for text in HOSTILE:
        path = "/api/v1/search" if parameter in ("q", "receiver") else "/api/v1/flows"
        response = reader.get(path, params={parameter: text})
        assert response.status_code == 200, (text, response.text)
        answer = response.json()
        assert not answer.get("hits", []), text
        assert not answer.get("flows", []), text


def test_hostile_ids_are_not_found(reader):
    """Nor do they break anything."""
    for text in [*HOSTILE, "0" * 32, "g" * 32, MESSAGE[:-1], "0" * 512]:
        for kind in ("flows", "messages"):
            response = reader.get(f"/api/v1/{kind}/{quote(text, safe='')}")
            assert response.status_code in (404, 422), (kind, text, response.text)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(q=st.text(max_size=80), service=st.text(max_size=20))
def test_no_search_breaks_the_collector(reader, q, service):
    """Any text is a question that has an answer, or a client's error."""
    q, service = (text.encode("utf-8", "replace").decode() for text in (q, service))
    assert reader.get("/api/v1/search", params={"q": q, "service": service}).status_code in (200, 422)


async def test_live_viewers_see_the_flow(collector):
    """Two viewers, one snapshot."""
    async with httpx.AsyncClient(base_url=collector.api, timeout=scale_wait(60), trust_env=False) as client:

        async def first() -> str:
            async with client.stream("GET", "/api/v1/live?window=300&interval=0.5") as response:
                async for line in response.aiter_lines():
                    # A busy machine may fail one snapshot on its time limit; the next one comes.
                    if line.startswith('data: {"at":'):
                        return line.removeprefix("data: ")
            raise AssertionError("the stream ended")

        seen = await asyncio.gather(first(), first())
    live = Live.model_validate_json(seen[0])
    assert TRACE in {flow.flow_id for flow in live.flows}
    assert UNROUTED in {delivery.message_id for delivery in live.undelivered}


def test_the_metrics_page_tells_of_the_traffic(reader):
    """Own numbers at once, derived ones on the same page as soon as the engine has answered."""
    page = reader.get("/metrics").text
    assert re.search(r"^hopwatch_ingest_spans_total 3\.0$", page, re.MULTILINE)
    wait(lambda: 'service="billing"' in reader.get("/metrics").text, "no derived numbers")
    page = reader.get("/metrics").text
    assert re.search(r'^hopwatch_deliveries\{.*verdict="returned".*\} 1\.0$', page, re.MULTILINE)


def test_a_viewer_does_not_keep_the_collector_from_stopping(tmp_path):
    """SIGTERM ends it in good order while somebody watches."""
    ready = tmp_path / "stdout"
    command = [str(Path(sys.executable).with_name("hopwatch")), "collect", "--data", str(tmp_path / "data")]
    command += ["--otlp-grpc-port=0", "--otlp-http-port=0", "--api-port=0"]
    with ready.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
    try:
        wait(
            lambda: ready.read_text().endswith("\n") or process.poll() is not None,
            "the collector is not ready",
        )
        api = re.findall(r"api=(\S+)", ready.read_text())[0]
        with httpx.stream("GET", f"http://{api}/api/v1/live", timeout=scale_wait(20)) as response:
            lines = response.iter_lines()
            assert next(lines) == "retry: 2000"
            process.send_signal(signal.SIGTERM)
            for _ in lines:
                pass
        assert process.wait(scale_wait(20)) == 0
    finally:
        process.kill()
        process.wait()
