"""What tests of the collector's ingest side share: requests, a store made of files, a running pipeline."""

import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hopwatch_collector.metrics import Metrics
from hopwatch_collector.pipeline import Pipeline, pipeline
from hopwatch_collector.settings import Settings

OtlpRequest = Callable[..., bytes]
RunPipeline = Callable[..., AbstractAsyncContextManager[Pipeline]]


class FileStore:
    """Keeps each batch in a file named by its token, as the engine keeps it under its deduplication token."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.failures: list[Exception] = []
        """Raised by the next inserts, first to last."""
        self.poison: bytes | None = None
        """Payloads that contain it are refused with `refusal`."""
        self.refusal: Exception | None = None
        self.inserts: list[str] = []
        """Tokens of all inserts tried, oldest first."""
        self.maintained = 0

    def insert_otlp(self, payload: bytes, token: str) -> None:
        self.inserts.append(token)
        if self.failures:
            raise self.failures.pop(0)
        if self.refusal is not None and self.poison is not None and self.poison in payload:
            raise self.refusal
        (self.directory / token).write_bytes(payload)

    def maintain(self) -> None:
        self.maintained += 1

    def payloads(self) -> list[bytes]:
        """What was stored, in journal order."""
        stored = [token for token in os.listdir(self.directory) if not token.endswith("-probe")]
        tokens = sorted(stored, key=lambda token: int(token.split("-")[1]))
        return [(self.directory / token).read_bytes() for token in tokens]

    def span_names(self) -> list[str]:
        """The names of all spans stored, in journal order."""
        return [name for payload in self.payloads() for name in names_in(payload)]


def names_in(payload: bytes) -> list[str]:
    """The names of all spans in serialized requests, concatenated or single."""
    request = ExportTraceServiceRequest.FromString(payload)
    return [
        span.name
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def build_request(names: Iterable[str], *, bad_ids: Iterable[str] = (), padding: int = 0) -> bytes:
    """A serialized request with one span per name; those in `bad_ids` get a trace id of zeros."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    attribute = resource.resource.attributes.add(key="service.name")
    attribute.value.string_value = "orders"
    scope = resource.scope_spans.add()
    bad = set(bad_ids)
    for name in names:
        span = scope.spans.add(name=name, span_id=os.urandom(8), kind=4)
        span.trace_id = bytes(16) if name in bad else os.urandom(16)
        span.start_time_unix_nano = 1_790_000_000_000_000_000
        span.end_time_unix_nano = 1_790_000_000_001_000_000
        if padding:
            span.attributes.add(key="padding").value.string_value = "x" * padding
    return request.SerializeToString()


@pytest.fixture
def otlp() -> OtlpRequest:
    """Builds serialized requests: `otlp(["a", "b"], bad_ids=["b"], padding=100)`."""
    return build_request


@pytest.fixture
def file_store(tmp_path: Path) -> FileStore:
    """A store made of files."""
    return FileStore(tmp_path / "store")


@pytest.fixture
def ingest_settings(tmp_path: Path) -> Settings:
    """Any free ports, a directory of its own, and no waiting for larger batches."""
    return Settings(data=tmp_path / "data", otlp_grpc_port=0, otlp_http_port=0, api_port=0, linger=0.02)


@pytest.fixture
def run_pipeline(ingest_settings: Settings, file_store: FileStore) -> RunPipeline:
    """Runs the ingest side over the file store: `async with run_pipeline(max_request_bytes=…) as pipe`."""

    @asynccontextmanager
    async def run(metrics: Metrics | None = None, **changes: object) -> AsyncIterator[Pipeline]:
        settings = ingest_settings.model_copy(update=changes)
        async with pipeline(settings, file_store, metrics or Metrics(), lambda: None) as running:
            yield running

    return run
