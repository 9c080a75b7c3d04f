"""OTLP over HTTP on a real socket: what is accepted, what is refused, and in which words."""

import asyncio
import gzip
import json
import zlib

import httpx
import pytest
from google.protobuf import json_format
from google.rpc import code_pb2, error_details_pb2, status_pb2
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from hopwatch_collector.metrics import Metrics
from hopwatch_demo.patience import scale_wait

JSON = {"content-type": "application/json"}
GZIP = {"content-encoding": "gzip"}


def status_in(response: httpx.Response) -> status_pb2.Status:
    """The google.rpc.Status of an error answer, in whichever encoding it came."""
    if response.headers["content-type"] == "application/json":
        return json_format.Parse(response.text, status_pb2.Status())
    assert response.headers["content-type"] == "application/x-protobuf"
    return status_pb2.Status.FromString(response.content)


async def test_a_request_is_stored_and_answered_empty(run_pipeline, file_store, post, drained, otlp) -> None:
    """A good request is answered with an empty message of the same type and reaches the store."""
    async with run_pipeline() as pipe:
        response = await post(pipe, otlp(["a", "b"]))
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"] == "application/x-protobuf"
        await asyncio.to_thread(drained, pipe)
        assert file_store.span_names() == ["a", "b"]


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
async def test_the_sdk_exporter_delivers(run_pipeline, file_store, drained, compression) -> None:
    """OpenTelemetry's own exporter gets its spans in, whatever compression it uses."""
    async with run_pipeline() as pipe:

        def work() -> None:
            exporter = OTLPSpanExporter(
                f"http://127.0.0.1:{pipe.http_port}/v1/traces", compression=compression
            )
            provider = TracerProvider()
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            with provider.get_tracer("test").start_as_current_span("from the sdk"):
                pass
            provider.shutdown()
            drained(pipe)

        await asyncio.to_thread(work)
    assert file_store.span_names() == ["from the sdk"]


async def test_json_is_answered_in_json(run_pipeline, file_store, post) -> None:
    """A JSON request is stored like any other; its answer is JSON."""
    span = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "from json"}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    async with run_pipeline() as pipe:
        plain = await post(pipe, body, {"content-type": "application/json; charset=utf-8"})
        zipped = await post(pipe, gzip.compress(body), JSON | GZIP)
        assert [(r.status_code, r.json(), r.headers["content-type"]) for r in (plain, zipped)] == [
            (200, {}, "application/json")
        ] * 2
    assert file_store.span_names() == ["from json"] * 2


async def test_spans_with_bad_ids_are_a_partial_success(run_pipeline, file_store, post, otlp) -> None:
    """The good spans are kept; the answer says how many were not, and why."""
    async with run_pipeline() as pipe:
        response = await post(pipe, otlp("abc", bad_ids="b"))
    answer = ExportTraceServiceResponse.FromString(response.content)
    assert response.status_code == 200
    assert answer.partial_success.rejected_spans == 1
    assert "trace_id" in answer.partial_success.error_message
    assert file_store.span_names() == ["a", "c"]


async def test_partial_success_in_json(run_pipeline, post) -> None:
    """JSON says it in lowerCamelCase, the count as a string, as protobuf's JSON has 64-bit numbers."""
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "00", "spanId": "01"}]}]}]}
    async with run_pipeline() as pipe:
        response = await post(pipe, json.dumps(body).encode(), JSON)
    assert response.json()["partialSuccess"]["rejectedSpans"] == "1"


@pytest.mark.parametrize("headers", [{}, JSON], ids=["protobuf", "json"])
async def test_malformed_is_400_with_a_status(run_pipeline, file_store, post, headers) -> None:
    """A malformed body is refused for good, in the request's own encoding, and reaches no batch."""
    async with run_pipeline() as pipe:
        response = await post(pipe, b"\xff\xfe not otlp", headers)
    assert response.status_code == 400
    assert status_in(response).code == code_pb2.INVALID_ARGUMENT
    assert "ExportTraceServiceRequest" in status_in(response).message
    assert file_store.inserts == []


async def test_a_truncated_request_is_malformed(run_pipeline, post, otlp) -> None:
    """Half a request is none."""
    body = otlp(["a"])
    async with run_pipeline() as pipe:
        assert (await post(pipe, body[:-5])).status_code == 400
        assert (await post(pipe, gzip.compress(body)[:-5], GZIP)).status_code == 400
        assert (await post(pipe, body, GZIP)).status_code == 400


@pytest.mark.parametrize("declared", [True, False], ids=["content-length", "chunked"])
async def test_an_oversized_body_is_413(run_pipeline, post, otlp, declared: bool) -> None:
    """Over the limit is refused for good, whether or not the sender says its length first."""
    body = otlp(["a"], padding=200_000)

    async def pieces():
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    async with run_pipeline(max_request_bytes=100_000) as pipe:
        response = await post(pipe, body if declared else pieces())
        assert response.status_code == 413
        assert status_in(response).code == code_pb2.RESOURCE_EXHAUSTED
        assert (await post(pipe, otlp(["a"], padding=90_000))).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_is_413(run_pipeline, post, encoding: str) -> None:
    """A small body that unpacks to a large one is stopped at the limit."""
    pack = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    async with run_pipeline(max_request_bytes=1 << 20) as pipe:
        response = await post(pipe, pack(bytes(200 << 20)), {"content-encoding": encoding})
    assert response.status_code == 413


@pytest.mark.parametrize(
    "headers",
    [{"content-type": "text/plain"}, {"content-type": ""}, {"content-encoding": "br"}],
    ids=["type", "no type", "encoding"],
)
async def test_what_we_do_not_speak_is_415(run_pipeline, post, otlp, headers) -> None:
    """Other types and encodings are refused with what would be taken."""
    async with run_pipeline() as pipe:
        response = await post(pipe, otlp(["a"]), headers)
    assert response.status_code == 415
    assert "gzip" in response.headers["accept-encoding"]
    assert "is not spoken here" in status_in(response).message


async def test_another_method_is_405(run_pipeline, post) -> None:
    """Only POST is taken, and the answer says so."""
    async with run_pipeline() as pipe:
        response = await post(pipe, b"", method="GET")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert "POST to /v1/traces" in status_in(response).message


@pytest.mark.parametrize("path", ["/v1/metrics", "/v1/logs", "/nothing/here"])
async def test_other_paths_are_404(run_pipeline, post, path: str) -> None:
    """Metrics and logs are not taken; 404 tells an exporter not to send the same again."""
    async with run_pipeline() as pipe:
        response = await post(pipe, b"", path=path)
    assert response.status_code == 404
    assert "/v1/traces" in status_in(response).message


async def test_an_empty_request_is_fine(run_pipeline, file_store, post) -> None:
    """No spans is a valid request that stores nothing."""
    async with run_pipeline() as pipe:
        assert (await post(pipe, b"")).status_code == 200
    assert file_store.inserts == []


async def test_a_missing_or_wrong_token_is_401(run_pipeline, file_store, post, otlp) -> None:
    """With an ingest token set, only who shows it gets in."""
    async with run_pipeline(ingest_token="secret") as pipe:
        for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic secret"}):
            response = await post(pipe, otlp(["a"]), header)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert status_in(response).code == code_pb2.UNAUTHENTICATED
        assert (await post(pipe, otlp(["b"]), {"authorization": "bearer secret"})).status_code == 200
    assert file_store.span_names() == ["b"]


async def test_a_full_journal_asks_to_come_again(run_pipeline, file_store, post, otlp) -> None:
    """A full journal is 503 with Retry-After and RetryInfo; nothing acknowledged before is lost."""
    file_store.failures = [OSError("the engine is away")] * 1000
    body = otlp(["a"], padding=200_000)
    async with run_pipeline(journal_max_bytes=1 << 20) as pipe:
        answers = [await post(pipe, body) for _ in range(8)]
        taken = [answer for answer in answers if answer.status_code == 200]
        refused = answers[-1]
        assert len(taken) == 5
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        status = status_in(refused)
        info = error_details_pb2.RetryInfo()
        assert status.code == code_pb2.UNAVAILABLE
        assert status.details[0].Unpack(info)
        assert info.retry_delay.seconds == 5
        file_store.failures = []
    assert file_store.span_names() == ["a"] * 5


async def test_too_many_bytes_in_hand_asks_to_come_again(run_pipeline, post, otlp) -> None:
    """Beyond the bound on memory, requests are refused retryably, and the memory is given back."""
    async with run_pipeline(max_inflight_bytes=100_000) as pipe:
        assert (await post(pipe, otlp(["a"], padding=150_000))).status_code == 503
        assert (await post(pipe, otlp(["a"], padding=90_000))).status_code == 200
        assert (await post(pipe, otlp(["a"], padding=90_000))).status_code == 200


async def test_a_body_that_does_not_come_is_408(run_pipeline) -> None:
    """A sender that stops in the middle does not hold its place for ever."""
    async with run_pipeline(body_timeout=0.1) as pipe:
        reader, writer = await asyncio.open_connection("127.0.0.1", pipe.http_port)
        writer.write(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
            b"Content-Length: 100\r\n\r\nhalf"
        )
        assert b" 408 " in await asyncio.wait_for(reader.readline(), scale_wait(20))
        writer.close()
        await writer.wait_closed()


async def test_every_answer_is_counted(run_pipeline, post, otlp) -> None:
    """Requests by outcome, spans and bytes kept, refusals by reason."""
    metrics = Metrics()
    body = otlp("abc")
    async with run_pipeline(metrics=metrics) as pipe:
        await post(pipe, body)
        await post(pipe, otlp("ab", bad_ids="a"))
        await post(pipe, b"\xff")
    read = metrics.registry.get_sample_value
    for outcome in ("accepted", "partial", "rejected"):
        labels = {"protocol": "http/protobuf", "outcome": outcome}
        assert read("hopwatch_ingest_requests_total", labels) == 1
    assert read("hopwatch_ingest_spans_total") == 4
    assert read("hopwatch_ingest_refused_total", {"reason": "malformed"}) == 1
    assert read("hopwatch_ingest_refused_total", {"reason": "invalid_ids"}) == 1
    assert read("hopwatch_ingest_bytes_total") > len(body)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://shop.example", True),
        ("https://SHOP.example", True),
        ("http://localhost:3000", True),
        ("http://127.0.0.1:8080", True),
        ("https://evil.example", False),
        ("https://shop.example.evil.example", False),
        ("http://shop.example", False),
        ("http://localhost.evil.example", False),
        ("null", False),
        ("http://[", False),
        ("", False),
    ],
)
async def test_web_pages_may_send_where_they_are_allowed_to(
    run_pipeline, file_store, post, otlp, origin: str, allowed: bool
) -> None:
    """A page that may is answered as browsers ask, preflight included; any other writes nothing, whatever name it came by."""
    async with run_pipeline(otlp_origins=("https://shop.example",)) as pipe:
        asks = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, content-type",
        }
        preflight = await post(pipe, b"", asks, method="OPTIONS")
        sent = await post(pipe, otlp(["a"]), {"origin": origin, "host": "evil.example"})
    if allowed:
        assert (preflight.status_code, sent.status_code) == (200, 200)
        for answer in (preflight, sent):
            assert answer.headers["access-control-allow-origin"] == origin
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        assert file_store.span_names() == ["a"]
    else:
        assert (preflight.status_code, sent.status_code) == (403, 403)
        assert status_in(sent).code == code_pb2.PERMISSION_DENIED
        assert "--otlp-origin" in status_in(sent).message
        assert "access-control-allow-origin" not in preflight.headers
        assert file_store.span_names() == []


async def test_pages_of_a_machine_are_local_on_loopback_only(run_pipeline, post, otlp) -> None:
    """A collector that others can reach takes no page's word for being on the same machine."""
    async with run_pipeline(listen="0.0.0.0") as pipe:
        assert (await post(pipe, otlp(["a"]), {"origin": "http://localhost:3000"})).status_code == 403
        assert (await post(pipe, otlp(["a"]))).status_code == 200
