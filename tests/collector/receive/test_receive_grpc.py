"""OTLP over gRPC on a real socket, with OpenTelemetry's own exporter and with raw bytes."""

import asyncio
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from hopwatch_demo.patience import scale_wait

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


async def export(pipe, body: bytes, *, method: str = TRACES, metadata=(), compression=None) -> bytes:
    """Sends raw bytes and returns the raw answer."""
    options = [("grpc.max_send_message_length", -1)]
    async with aio.insecure_channel(f"127.0.0.1:{pipe.grpc_port}", options=options) as channel:
        call = channel.unary_unary(method)
        return await call(body, metadata=metadata, compression=compression, timeout=scale_wait(30))


async def refusal(pipe, body: bytes, **options) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await export(pipe, body, **options)
    return caught.value


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
async def test_the_sdk_exporter_delivers_over_grpc(run_pipeline, file_store, drained, compression) -> None:
    """OpenTelemetry's own exporter gets its spans in, compressed or not."""
    async with run_pipeline() as pipe:

        def work() -> None:
            exporter = OTLPSpanExporter(f"127.0.0.1:{pipe.grpc_port}", insecure=True, compression=compression)
            provider = TracerProvider()
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            with provider.get_tracer("test").start_as_current_span("from the sdk"):
                pass
            provider.shutdown()
            drained(pipe)

        await asyncio.to_thread(work)
    assert file_store.span_names() == ["from the sdk"]


async def test_grpc_spans_with_bad_ids_are_a_partial_success(run_pipeline, file_store, otlp) -> None:
    """The good spans are kept; the answer counts the others. A wholly good request is answered empty."""
    async with run_pipeline() as pipe:
        answer = ExportTraceServiceResponse.FromString(await export(pipe, otlp("abc", bad_ids="ab")))
        assert await export(pipe, otlp("d")) == b""
    assert answer.partial_success.rejected_spans == 2
    assert file_store.span_names() == ["c", "d"]


async def test_grpc_malformed_is_invalid_argument(run_pipeline, file_store) -> None:
    """Malformed bytes are refused for good and reach no batch."""
    async with run_pipeline() as pipe:
        error = await refusal(pipe, b"\xff\xff\xff")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert file_store.inserts == []


async def test_grpc_oversized_is_resource_exhausted(run_pipeline, otlp) -> None:
    """Over the limit is refused without RetryInfo, which means: do not send it again."""
    async with run_pipeline(max_request_bytes=100_000) as pipe:
        error = await refusal(pipe, otlp(["a"], padding=200_000))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-status-details-bin" not in dict(error.trailing_metadata())


async def test_a_grpc_bomb_is_not_unpacked(run_pipeline) -> None:
    """A small message that unpacks to a large one is stopped at the limit, not in memory."""
    bomb = """
import sys, grpc
options = [("grpc.max_send_message_length", -1)]
with grpc.insecure_channel(sys.argv[1], compression=grpc.Compression.Gzip, options=options) as channel:
    try:
        channel.unary_unary(sys.argv[2])(bytes(150 << 20), timeout=60)
    except grpc.RpcError as error:
        print(error.code().name)
"""
    async with run_pipeline(max_request_bytes=1 << 20) as pipe:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        command = [sys.executable, "-c", bomb, f"127.0.0.1:{pipe.grpc_port}", TRACES]
        # In a process of its own: the sender does hold all of it.
        sender = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=scale_wait(90)
        )
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sender.stdout.strip() == "RESOURCE_EXHAUSTED"
    assert after - before < 60 << 10  # KiB


@pytest.mark.parametrize("signal", ["metrics.v1.MetricsService", "logs.v1.LogsService"])
async def test_other_signals_are_unimplemented(run_pipeline, signal: str) -> None:
    """Metrics and logs are not taken."""
    async with run_pipeline() as pipe:
        error = await refusal(pipe, b"", method=f"/opentelemetry.proto.collector.{signal}/Export")
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "traces only" in error.details()


async def test_grpc_without_the_token_is_unauthenticated(run_pipeline, file_store, otlp) -> None:
    """With an ingest token set, only who shows it gets in."""
    async with run_pipeline(ingest_token="secret") as pipe:
        for shown in ((), (("authorization", "Bearer wrong"),)):
            error = await refusal(pipe, otlp("a"), metadata=shown)
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        await export(pipe, otlp("b"), metadata=(("authorization", "Bearer secret"),))
    assert file_store.span_names() == ["b"]


async def test_a_full_journal_is_unavailable_with_retry_info(run_pipeline, file_store, otlp) -> None:
    """A full journal asks the sender to come again, and says when."""
    file_store.failures = [OSError("the engine is away")] * 1000
    async with run_pipeline(journal_max_bytes=1 << 20) as pipe:
        await export(pipe, otlp("a", padding=900_000))
        error = await refusal(pipe, otlp("b", padding=900_000))
        file_store.failures = []
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert info.retry_delay.seconds == 5


async def test_two_collectors_do_not_share_a_port(run_pipeline, ingest_settings, tmp_path) -> None:
    """A taken gRPC port is an error at start, not a silent half of the traffic."""
    from hopwatch_collector.errors import StartError

    async with run_pipeline() as pipe:
        with pytest.raises(StartError, match=str(pipe.grpc_port)):
            async with run_pipeline(data=tmp_path / "other", otlp_grpc_port=pipe.grpc_port):
                pass


async def nothing(said: asyncio.Event) -> AsyncIterator[bytes]:
    """A request that never comes."""
    await said.wait()
    return
    yield b""


async def test_a_token_is_asked_for_before_the_message_is_read(run_pipeline) -> None:
    """Whoever may not send is refused at once, however much they are about to send."""
    never = asyncio.Event()
    async with (
        run_pipeline(ingest_token="secret") as pipe,
        aio.insecure_channel(f"127.0.0.1:{pipe.grpc_port}") as channel,
    ):
        call = channel.stream_unary(TRACES)(nothing(never), timeout=scale_wait(30))
        assert await call.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_a_call_without_a_message(run_pipeline) -> None:
    """It is no request; and one whose message does not come is given up."""
    said = asyncio.Event()
    async with (
        run_pipeline(body_timeout=0.5) as pipe,
        aio.insecure_channel(f"127.0.0.1:{pipe.grpc_port}") as channel,
    ):
        call = channel.stream_unary(TRACES)(nothing(said), timeout=scale_wait(30))
        assert await call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert "did not arrive within 0.5 s" in (await call.details())
        said.set()
        call = channel.stream_unary(TRACES)(nothing(said), timeout=scale_wait(30))
        assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_calls_in_hand_are_bounded(run_pipeline, otlp) -> None:
    """More calls than are read at once are asked to come again; when there is room, they are taken."""
    never = asyncio.Event()
    async with run_pipeline() as pipe, AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                aio.insecure_channel(
                    f"127.0.0.1:{pipe.grpc_port}", options=[("grpc.use_local_subchannel_pool", 1)]
                )
            )
            for _ in range(5)
        ]
        calls = [
            channel.stream_unary(TRACES)(nothing(never), timeout=scale_wait(60))
            for channel in channels
            for _ in range(60)
        ]
        ended = [asyncio.create_task(call.code()) for call in calls]
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        refused = next(call for call, task in zip(calls, ended, strict=True) if task.done())
        assert await refused.code() == grpc.StatusCode.UNAVAILABLE
        details = dict(await refused.trailing_metadata())["grpc-status-details-bin"]
        assert error_details_pb2.RetryInfo.DESCRIPTOR.full_name.encode() in details
        for call in calls:
            call.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        taken: bytes | None = None
        async with asyncio.timeout(scale_wait(20)):
            while taken is None:
                with suppress(aio.AioRpcError):  # the calls that were cancelled may still be on their way out
                    taken = await export(pipe, otlp("a"))
        assert taken == b""
