"""What a span costs: recording and encoding, ours beside the SDK's; and a burst that nobody can keep up with.

    python -m benchmarks.export [--burst SECONDS]

Interpreter and machine matter: compare within one run.
"""

import argparse
import platform
import resource
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from hopwatch.ids import new_message_id
from hopwatch.lean.encode import Encoder, encoded
from hopwatch.lean.provider import LeanTracerProvider
from hopwatch.lean.queue import SpanQueue
from hopwatch.lean.settings import ExportSettings
from hopwatch.lean.span import LeanSpan
from hopwatch.ready import Ready

SPANS = 512
ROUNDS = 40
MESSAGES_PER_S = 50_000
SPANS_PER_MESSAGE = 2
RESOURCE = Resource({"service.name": "orders", "service.instance.id": "1", "process.pid": 1})


def attributes(number: int) -> dict[str, str | int]:
    """Return ten attributes as a send has them: most repeat, the message id never does."""
    return {
        "messaging.system": "nats",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "orders.created",
        "hopwatch.destination": "orders.created",
        "server.address": "127.0.0.1",
        "server.port": 4222,
        "messaging.message.body.size": number % 200,
        "hopwatch.message.id": new_message_id(),
        "hopwatch.publish.outcome": "confirmed",
    }


class Kept:
    """An outlet and exporter that keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[LeanSpan] = []
        self.put = self.spans.append


class Nowhere(SpanExporter):
    """An exporter that keeps the last batch."""

    batch: tuple[ReadableSpan, ...] = ()

    def export(self, spans: object) -> SpanExportResult:
        """Take a batch."""
        self.batch = tuple(spans)  # type: ignore[arg-type]
        return SpanExportResult.SUCCESS


def best(work: Callable[[], object]) -> float:
    """Return the microseconds per span of the best of many rounds."""
    fastest = float("inf")
    for _ in range(ROUNDS):
        before = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - before)
    return fastest / SPANS * 1e6


def recording(tracer: trace.Tracer, ready: type[dict[str, str | int]]) -> float:
    """Return what starting and ending a span costs."""
    described = [attributes(number) for number in range(SPANS)]
    context, fastest = Context(), float("inf")
    for _ in range(ROUNDS):
        batch = [ready(one) for one in described]
        before = time.perf_counter()
        for one in batch:
            tracer.start_span("publish orders.created", context, SpanKind.PRODUCER, one).end()
        fastest = min(fastest, time.perf_counter() - before)
    return fastest / SPANS * 1e6


def compare() -> None:
    """Print what a span costs either way."""
    kept = Kept()
    lean = LeanTracerProvider(RESOURCE, kept)
    ours = recording(lean.get_tracer("hopwatch.nats"), Ready)
    others = recording(lean.get_tracer("some.library"), dict)
    exporter = Nowhere()
    sdk = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    sdk.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=10 * SPANS, max_export_batch_size=SPANS)
    )
    theirs = recording(sdk.get_tracer("some.library"), dict)
    sdk.force_flush()
    encoder, batch = Encoder(RESOURCE), kept.spans[:SPANS]
    lean_encode = best(
        lambda: encoder.encode([span._tracer for span in batch], [encoded(span) for span in batch])
    )
    sdk_encode = best(lambda: encode_spans(exporter.batch).SerializeToString())
    sdk_encode *= SPANS / max(len(exporter.batch), 1)
    sdk.shutdown()
    print(f"record, lean: our recorder's {ours:.1f} µs, others' {others:.1f} µs; SDK: {theirs:.1f} µs")
    print(
        f"encode, lean: {lean_encode:.1f} µs; SDK: {sdk_encode:.1f} µs ({len(batch[0].attributes or {})} attributes)"
    )


class Discarding(BaseHTTPRequestHandler):
    """Takes everything and keeps nothing."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer at once."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def discard(port: Connection) -> None:
    """Be a collector that discards, in a process of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Discarding)
    port.send(server.server_port)
    server.serve_forever()


def whole(url: str) -> None:
    """Print what a span costs from its start to the collector's answer, in CPU of this process."""
    queue = SpanQueue(ExportSettings(url=url), RESOURCE)
    lean = LeanTracerProvider(RESOURCE, queue)
    sdk = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    sdk.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url), max_queue_size=8 * SPANS))
    described, context = [attributes(number) for number in range(4 * SPANS)], Context()
    figures = []
    for provider, ready in ((lean, Ready), (sdk, dict)):
        tracer, fastest = provider.get_tracer("hopwatch.nats"), float("inf")
        for _ in range(10):
            batch = [ready(one) for one in described]
            before = time.process_time()
            for one in batch:
                tracer.start_span("publish orders.created", context, SpanKind.PRODUCER, one).end()
            assert provider.force_flush()
            fastest = min(fastest, time.process_time() - before)
        figures.append(fastest / len(described) * 1e6)
        provider.shutdown()
    print(f"whole, sent to a local collector: lean {figures[0]:.1f} µs, SDK {figures[1]:.1f} µs")


def burst(seconds: float) -> None:
    """Record faster than anyone takes it: nothing blocks, memory is bounded, every span is accounted for."""
    with closing(socket.socket()) as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/v1/traces"
        queue = SpanQueue(ExportSettings(url=url), RESOURCE)
        tracer = LeanTracerProvider(RESOURCE, queue).get_tracer("hopwatch.nats")
        described, context = attributes(0), Context()
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, ended, longest = time.perf_counter(), 0, 0.0
        while (now := time.perf_counter() - began) < seconds:
            while ended < now * MESSAGES_PER_S * SPANS_PER_MESSAGE:
                start = time.perf_counter()
                tracer.start_span("publish", context, SpanKind.PRODUCER, described).end()
                longest = max(longest, time.perf_counter() - start)
                ended += 1
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
        queue.shutdown(1.0)
        stats = queue.stats()
        accounted = stats.delivered + stats.waiting + sum(stats.dropped.values())
    print(f"burst: {ended / seconds:,.0f} spans/s for {seconds:g} s with nobody listening")
    print(f"longest span {longest * 1e3:.1f} ms, memory grown by {grown:.0f} MiB")
    print(f"accounted for {accounted:,} of {ended:,}: {stats}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--burst", type=float, default=10.0, help="seconds of 50,000 messages each; 0 for none"
    )
    asked = parser.parse_args()
    print(f"{platform.python_implementation()} {sys.version.split()[0]}, {platform.machine()}")
    compare()
    here, there = Pipe()
    collector = Process(target=discard, args=(there,), daemon=True)
    collector.start()
    whole(f"http://127.0.0.1:{here.recv()}/v1/traces")
    collector.terminate()
    collector.join()
    if asked.burst:
        burst(asked.burst)


if __name__ == "__main__":
    main()
