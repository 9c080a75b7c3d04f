"""gRPC, blocking and asyncio, caller and callee: one span per call on either side, until the call is really over.

Callers are covered whenever their channel was made, callees if their server was made after. The call objects the
application gets are grpcio's own.
"""

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from grpc import _channel
from grpc.aio import _call as _aio_call
from grpc.aio import _channel as _aio_channel
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from opentelemetry.trace import Tracer

from hopwatch.callmeters import CallMeters
from hopwatch.calls import Calls
from hopwatch.hooks import hook_for
from hopwatch.instrumentor import EitherInstrumentor
from hopwatch.transports.grpc.caller import Caller
from hopwatch.transports.grpc.caller_aio import AioCaller
from hopwatch.transports.grpc.server import AioInterceptor, Interceptor, intercepting
from hopwatch.wrapping import Patches

__all__ = ["GrpcInstrumentor"]


class GrpcInstrumentor(EitherInstrumentor):
    """Wraps grpcio's multi-callables, and puts an interceptor before those of every new server."""

    library = "grpc"
    requires = "grpcio >= 1.62, < 2"

    def patch(self, patches: Patches, tracer: Tracer) -> None:
        """Put the wrappers around callers and servers."""
        calls = Calls(tracer, CallMeters(), hook_for(self.library))
        _patch_blocking(patches, Caller(calls))
        _patch_aio(patches, AioCaller(calls))
        patches.wrap(grpc, "server", intercepting(Interceptor(calls, patches), 2))
        patches.wrap(grpc.aio, "server", intercepting(AioInterceptor(calls, patches), 2))

    def contribs(self, patches: Patches) -> Sequence[tuple[BaseInstrumentor, dict[str, Any]]]:
        """Return OpenTelemetry's four instrumentations."""
        from opentelemetry.instrumentation import grpc as contrib

        parts: Sequence[Any] = (
            contrib.GrpcAioInstrumentorClient,
            contrib.GrpcAioInstrumentorServer,
            contrib.GrpcInstrumentorClient,
            contrib.GrpcInstrumentorServer,
        )
        return [(part(), {}) for part in parts]


def _patch_blocking(patches: Patches, caller: Caller) -> None:
    for one_answer in (_channel._UnaryUnaryMultiCallable, _channel._StreamUnaryMultiCallable):
        patches.wrap(one_answer, "__call__", caller.blocking)
        patches.wrap(one_answer, "with_call", caller.blocking)
        patches.wrap(one_answer, "future", caller.started)
    patches.wrap(_channel._UnaryStreamMultiCallable, "__call__", caller.started)
    patches.wrap(_channel._SingleThreadedUnaryStreamMultiCallable, "__call__", caller.started)
    patches.wrap(_channel._StreamStreamMultiCallable, "__call__", caller.started)
    patches.wrap(_channel._MultiThreadedRendezvous, "_next", caller.received)
    patches.wrap(_channel._SingleThreadedRendezvous, "_next", caller.received)


def _patch_aio(patches: Patches, caller: AioCaller) -> None:
    for kind in ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"):
        patches.wrap(getattr(_aio_channel, f"{kind}MultiCallable"), "__call__", caller.started)
    patches.wrap(_aio_channel.Channel, "__init__", caller.opened)
    patches.wrap(_aio_call.Call, "__init__", caller.made)
    patches.wrap(_aio_call._StreamResponseMixin, "_read", caller.received)
    patches.wrap(_aio_call._StreamRequestMixin, "_write", caller.sent)
