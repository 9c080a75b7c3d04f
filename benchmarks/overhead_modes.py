"""What a service may run with, in the benchmark of overhead: nothing, hopwatch, or what OpenTelemetry offers today."""

import os
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module

from opentelemetry import trace


class Mode(StrEnum):
    """With what a workload runs."""

    NONE = "none"
    HEADERS = "headers"
    """Nothing, but messages with two headers of the application's own, as long as ours: what carrying ids costs a client,
    whoever fills them in."""
    HOPWATCH = "hopwatch"
    CONTRIB = "contrib"
    """OpenTelemetry's instrumentation, SDK and OTLP/HTTP exporter, set up as their manuals say."""
    HOPWATCH_SDK = "hopwatch_sdk"
    """hopwatch in an application that has set the SDK's provider itself; not in the default run."""

    @property
    def records(self) -> bool:
        """Whether spans are made."""
        return self not in (Mode.NONE, Mode.HEADERS)


@dataclass(frozen=True, slots=True)
class Library:
    """A library under measurement."""

    name: str
    transport: str
    """hopwatch's name for it."""
    contrib: str
    """OpenTelemetry's instrumentor; empty where there is none and the workload makes its spans by hand."""
    headers: bool = True
    """Whether the application can give headers of its own; where it is called, its caller decides."""


LIBRARIES = {
    library.name: library
    for library in (
        Library("aiokafka", "aiokafka", "aiokafka:AIOKafkaInstrumentor"),
        Library("nats", "nats", ""),
        Library("aio_pika", "aio_pika", "aio_pika:AioPikaInstrumentor"),
        Library("fastapi", "fastapi", "fastapi:FastAPIInstrumentor", headers=False),
        Library("httpx", "httpx", "httpx:HTTPXClientInstrumentor"),
        Library("grpc_client", "grpc", "grpc:GrpcAioInstrumentorClient"),
        Library("grpc_server", "grpc", "grpc:GrpcAioInstrumentorServer", headers=False),
    )
}


def turn_on(mode: Mode, library: Library, endpoint: str) -> None:
    """Instrument `library` in this process, exporting to `endpoint`."""
    if mode in (Mode.CONTRIB, Mode.HOPWATCH_SDK):
        _set_up_sdk(endpoint)
    if mode in (Mode.HOPWATCH, Mode.HOPWATCH_SDK):
        import hopwatch

        hopwatch.instrument(service="bench", endpoint=endpoint, only=[library.transport])
    elif mode is Mode.CONTRIB and library.contrib:
        module, _, name = library.contrib.partition(":")
        getattr(import_module(f"opentelemetry.instrumentation.{module}"), name)().instrument()


def flush() -> None:
    """Export all that waits: what a span costs is known once it has left."""
    provider = trace.get_tracer_provider()
    if hasattr(provider, "force_flush"):
        provider.force_flush(60_000)


def _set_up_sdk(endpoint: str) -> None:
    """With room in the queue for all there is: a span that is dropped costs nothing, and would flatter."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    os.environ["OTEL_SERVICE_NAME"] = "bench"
    provider = TracerProvider(resource=Resource.create())
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=1 << 18))
    trace.set_tracer_provider(provider)
