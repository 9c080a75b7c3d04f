"""httpx on OpenTelemetry's own instrumentation: the propagator puts our ids on every request."""

from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

__all__ = ["HTTPXClientInstrumentor"]
