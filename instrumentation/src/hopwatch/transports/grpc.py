"""gRPC, client and server, blocking and asyncio, on OpenTelemetry's own instrumentations."""

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation import grpc as contrib
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

_PARTS = (
    contrib.GrpcAioInstrumentorClient,
    contrib.GrpcAioInstrumentorServer,
    contrib.GrpcInstrumentorClient,
    contrib.GrpcInstrumentorServer,
)


class GrpcInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped base
    """Turns the four instrumentors of opentelemetry-instrumentation-grpc on and off as one."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of grpcio that OpenTelemetry's instrumentation supports."""
        return list(contrib.GrpcInstrumentorClient().instrumentation_dependencies())  # type: ignore[no-untyped-call]

    def _instrument(self, **kwargs: Any) -> None:
        for part in _PARTS:
            part().instrument(**kwargs)

    def _uninstrument(self, **kwargs: Any) -> None:
        for part in _PARTS:
            part().uninstrument(**kwargs)
