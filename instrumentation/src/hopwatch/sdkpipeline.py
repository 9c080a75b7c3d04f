"""The OpenTelemetry SDK's own pipeline, for exporters that the lean one is not: gRPC, the console, a vendor's."""

import atexit
import logging
import os
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from hopwatch.lean.settings import ExportSettings, export_settings
from hopwatch.processor import HopSpanProcessor
from hopwatch.threads import Event, Thread

_GROUP = "opentelemetry_traces_exporter"
_HTTP = "otlp_proto_http"
_EXIT_WITHIN_S = 4.0
_QUIET_S = 60.0

_log = logging.getLogger("hopwatch")


def set_up_sdk(resource: Resource, exporters: Sequence[str], endpoint: str | None) -> None:
    """Set an SDK provider with these exporters, each after a batch processor; what is not installed is said."""
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(HopSpanProcessor())
    for exporter in _load(exporters, endpoint):
        provider.add_span_processor(_batches(exporter))
    trace.set_tracer_provider(provider)
    atexit.register(_Farewell(provider))


def _load(names: Sequence[str], endpoint: str | None) -> Iterator[SpanExporter]:
    for name in names:
        found = next(iter(entry_points(group=_GROUP, name=name)), None)
        if found is None:
            _log.error("no spans are exported by %r: no installed package brings such an exporter", name)
        elif name == _HTTP:
            settings = export_settings(endpoint)
            yield found.load()(endpoint=settings.url, timeout=settings.timeout_s)
        elif name.startswith("otlp") and endpoint is not None:
            yield found.load()(endpoint=endpoint)
        else:
            yield found.load()()


def _batches(exporter: SpanExporter) -> BatchSpanProcessor:
    ours, environ = ExportSettings(), os.environ
    _quieten("opentelemetry.exporter.otlp.proto", "opentelemetry.sdk._shared_internal")
    return BatchSpanProcessor(
        exporter,
        max_queue_size=None if "OTEL_BSP_MAX_QUEUE_SIZE" in environ else ours.queued_spans,
        schedule_delay_millis=None if "OTEL_BSP_SCHEDULE_DELAY" in environ else ours.every_s * 1000,
    )


class _Farewell:
    """Flushes at exit, but never holds the process for longer than a few seconds for a collector that is gone.

    The thread exists from the start because Python 3.12 starts none while it shuts down.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._ending = Event()
        self._pid = os.getpid()
        self._thread = Thread("hopwatch-shutdown", self._run)
        self._thread.start()

    def __call__(self) -> None:
        """Flush and shut down within the bound; in a forked child, which has no such thread, without it."""
        if self._pid != os.getpid() or not self._thread.running:
            self._provider.shutdown()
            return
        self._ending.set()
        self._thread.join(_EXIT_WITHIN_S)

    def _run(self) -> None:
        self._ending.wait()
        self._provider.shutdown()


class _OncePerMinute(logging.Filter):
    """Lets each kind of message through once a minute: a dead collector must not flood the host's log."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether this record may pass; tracebacks of the exporter are left out."""
        now = time.monotonic()
        if now - self._last.get(str(record.msg), -_QUIET_S) < _QUIET_S:
            return False
        self._last[str(record.msg)] = now
        record.exc_info = None
        return True


def _quieten(*prefixes: str) -> None:
    for prefix in prefixes:
        names = [name for name in logging.root.manager.loggerDict if name.startswith(prefix)]
        for name in names:
            logging.getLogger(name).addFilter(_OncePerMinute())
