"""A small OTLP/HTTP receiver that keeps what it is sent, or behaves as badly as it is told."""

import ssl
import subprocess
import sys
import textwrap
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from support.process import inherited_environment

from hopwatch_demo.patience import scale_wait

Behaviour = Callable[[BaseHTTPRequestHandler, int], bool]
"""Called with each request and its number, body read; returns whether it has dealt with it, in which case nothing
is kept."""


class Sink:
    """An OTLP/HTTP receiver that keeps what it is sent."""

    def __init__(
        self, status: int = 200, behave: Behaviour | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.targets: list[str] = []
        self.connections: set[tuple[str, int]] = set()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                sink.targets.append(self.path)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.headers.append({name.lower(): value for name, value in self.headers.items()})
                sink.connections.add(self.client_address)
                if behave is not None and behave(self, len(sink.headers) - 1):
                    return
                if self.headers["Content-Encoding"]:
                    body = zlib.decompress(body, 47)  # gzip and deflate
                sink.requests.append(ExportTraceServiceRequest.FromString(body))
                answer(self, status)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *args: object) -> None:
                pass  # a connection cut in the middle is what some tests are about

        self.server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if tls is not None else ''}://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def received(self) -> Iterator[tuple[Resource, str, Span]]:
        """Yield (resource, scope name, span) of everything received."""
        for request in list(self.requests):
            for part in request.resource_spans:
                for scope in part.scope_spans:
                    for span in scope.spans:
                        yield part.resource, scope.scope.name, span

    def spans(self) -> list[tuple[str, Span]]:
        """Return (service name, span) of everything received."""
        return [(str(attribute(resource, "service.name")), span) for resource, _, span in self.received()]

    def names(self) -> list[str]:
        """Return the names of all spans received, sorted."""
        return sorted(span.name for _, _, span in self.received())

    def scopes(self) -> set[str]:
        """Return the names of the instrumentation libraries whose spans were received."""
        return {scope for _, scope, _ in self.received()}


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    """Answer a request."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def attribute(described: Resource | Span, name: str) -> str | int | None:
    """Return an attribute's value, a string or a number."""
    for found in described.attributes:
        if found.key == name:
            return found.value.string_value or found.value.int_value
    return None


def clean_environment(**environ: str) -> dict[str, str]:
    """Return this environment without settings of OpenTelemetry, hopwatch and coverage, with `environ` in it."""
    return inherited_environment(("OTEL_", "HOPWATCH_", "COV")) | environ


def run_code(code: str, *before: str, endpoint: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own and return what it printed."""
    return subprocess.run(
        [*before, sys.executable, "-c", textwrap.dedent(code)],
        env=clean_environment(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **environ),
        capture_output=True,
        text=True,
        timeout=scale_wait(60),
        check=False,
    )
