"""Where spans go: to the application's own provider if it has one, else through the lean pipeline of ours."""

import os
import socket
import uuid
from collections.abc import Callable
from typing import Any, Final

import wrapt
from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider

from hopwatch.farewell import say_farewell
from hopwatch.forks import after_fork
from hopwatch.lean.ledger import ExportStats
from hopwatch.lean.provider import LeanTracerProvider
from hopwatch.lean.queue import SpanQueue
from hopwatch.lean.settings import export_settings
from hopwatch.processor import HopSpanProcessor

_OURS: Final = ["otlp_proto_http"]
"""What the lean pipeline is."""

_CREDENTIALS: Final = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
)
"""These name sessions of `requests`, which only the SDK's exporter uses."""


def set_up_tracing(service: str | None, endpoint: str | None) -> bool:
    """Make spans flow: through the application's own provider if it has one, else through one of ours.

    Returns whether the provider is ours. Every `OTEL_*` variable that is set wins over our defaults.
    """
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.add_span_processor(HopSpanProcessor())
        return False
    if not isinstance(provider, trace.ProxyTracerProvider):
        return isinstance(provider, LeanTracerProvider)  # or foreign: our spans go there as they are
    resource, exporters = _resource(service), _exporters()
    if exporters and (exporters != _OURS or _wants_sdk()):
        from hopwatch.sdkpipeline import (
            set_up_sdk,
        )  # protobuf and requests, loaded only where they are asked for

        set_up_sdk(resource, exporters, endpoint)
    else:
        _stand_in(resource, SpanQueue(export_settings(endpoint), resource) if exporters else None)
    return True


def name_service(service: str) -> None:
    """Name the service after the fact, if nobody has named it: an import from `hopwatch.nats` may come first."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, LeanTracerProvider):
        provider.describe(_named(provider.resource, service))


def stats() -> ExportStats | None:
    """Return what became of this process's spans; None where another provider than ours has them."""
    provider = trace._TRACER_PROVIDER  # the function that returns it loads one by a variable, and may raise
    queue = provider.outlet if isinstance(provider, LeanTracerProvider) else None
    return queue.stats() if isinstance(queue, SpanQueue) else None


def _stand_in(resource: Resource, queue: SpanQueue | None) -> None:
    """Set the lean provider in a way that leaves the application free to set its own later.

    `set_tracer_provider` works once per process; the application shall be the one that uses it.
    """
    provider = LeanTracerProvider(resource, queue, stands_in=True)
    trace._TRACER_PROVIDER = provider
    wrapt.wrap_function_wrapper(trace, "set_tracer_provider", _making_way(provider))
    after_fork(lambda: provider.renew(_of_this_process(provider.resource)))
    say_farewell(provider)


def _making_way(provider: LeanTracerProvider) -> Callable[..., None]:
    """Notice at once what our tracers would only notice with their next span."""

    def set_tracer_provider(wrapped: Callable[..., None], _: object, args: Any, kwargs: Any) -> None:
        wrapped(*args, **kwargs)
        provider.make_way()

    return set_tracer_provider


def _exporters() -> list[str]:
    """Return the names of the exporters asked for, as the SDK spells them; none where there is to be none."""
    said = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    names = [name.strip() for name in said.split(",") if name.strip()]
    if "none" in names:
        return []
    otlp = "otlp_proto_grpc" if _protocol() == "grpc" else "otlp_proto_http"
    return [otlp if name == "otlp" else name for name in names]


def _protocol() -> str:
    environ = os.environ
    said = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return (said or "http/protobuf").strip().lower()


def _wants_sdk() -> bool:
    return any(os.environ.get(name) for name in _CREDENTIALS)


def _resource(service: str | None) -> Resource:
    resource = _this_process().merge(Resource.create())
    return resource if service is None else _named(resource, service)


def _named(resource: Resource, service: str) -> Resource:
    """Name a service whose name is not known: what `OTEL_*` say of it has been read and stays."""
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        return resource.merge(Resource({"service.name": service}))
    return resource


def _of_this_process(resource: Resource) -> Resource:
    """Return the resource of a forked child: what names the process is its own, unless the environment says it."""
    return resource.merge(_this_process()).merge(OTELResourceDetector().detect())


def _this_process() -> Resource:
    """Return what names this process, and the host whose clock it reads: clocks of hosts are compared."""
    return Resource(
        {
            "service.instance.id": str(uuid.uuid4()),
            "process.pid": os.getpid(),
            "host.name": socket.gethostname(),
        }
    )
