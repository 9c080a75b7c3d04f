"""The OpenTelemetry SDK pipeline hopwatch sets up when the application has none of its own."""

import atexit
import logging
import os
import threading
import time
import uuid

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from hopwatch.processor import HopSpanProcessor

DEFAULT_ENDPOINT = "http://127.0.0.1:4318"
"""Where a collector on the same machine listens for OTLP/HTTP."""

_EXPORT_EVERY_MS = 500.0
_QUEUE_SPANS = 16_384
_EXPORT_TIMEOUT_S = 3.0
_EXIT_WITHIN_S = 4.0
_QUIET_S = 60.0


def set_up_tracing(service: str | None, endpoint: str | None) -> bool:
    """Make spans flow: through the application's own provider if it has one, else through one of ours.

    Returns whether the provider is ours. Every `OTEL_*` variable that is set wins over our defaults.
    """
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.add_span_processor(HopSpanProcessor())
        return False
    if not isinstance(provider, trace.ProxyTracerProvider):
        return False  # a foreign implementation of the API: our spans go there as they are
    ours = TracerProvider(resource=_resource(service), shutdown_on_exit=False)
    ours.add_span_processor(HopSpanProcessor())
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "none":
        ours.add_span_processor(_batches(endpoint))
    trace.set_tracer_provider(ours)
    atexit.register(_Farewell(ours))
    return True


def _resource(service: str | None) -> Resource:
    own: dict[str, str | int] = {"service.instance.id": str(uuid.uuid4()), "process.pid": os.getpid()}
    if service is not None:
        own["service.name"] = service
    resource = Resource(own).merge(Resource.create())
    # Resource.create() reads OTEL_* and fills in `unknown_service` where they say nothing.
    if service is not None and str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": service}))
    return resource


def _batches(endpoint: str | None) -> BatchSpanProcessor:
    environ = os.environ
    said = "OTEL_EXPORTER_OTLP_ENDPOINT" in environ or "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in environ
    url = endpoint or (None if said else DEFAULT_ENDPOINT)
    timed = "OTEL_EXPORTER_OTLP_TIMEOUT" in environ or "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT" in environ
    _quieten("opentelemetry.exporter.otlp.proto.http", "opentelemetry.sdk._shared_internal")
    return BatchSpanProcessor(
        OTLPSpanExporter(
            endpoint=f"{url.rstrip('/')}/v1/traces" if url is not None else None,
            timeout=None if timed else _EXPORT_TIMEOUT_S,
        ),
        max_queue_size=None if "OTEL_BSP_MAX_QUEUE_SIZE" in environ else _QUEUE_SPANS,
        schedule_delay_millis=None if "OTEL_BSP_SCHEDULE_DELAY" in environ else _EXPORT_EVERY_MS,
    )


class _Farewell:
    """Flushes at exit, but never holds the process for longer than a few seconds for a collector that is gone.

    The thread exists from the start because Python 3.12 starts none while it shuts down.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hopwatch-shutdown", daemon=True)
        self._thread.start()

    def __call__(self) -> None:
        """Flush and shut down within the bound; in a forked child, which has no such thread, without it."""
        if not self._thread.is_alive():
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
