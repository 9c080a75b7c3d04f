"""FastAPI: every application, made before or after, answers its requests inside one server span.

FastAPI's own telemetry goes on measuring and logging where the application has set that up, but opens no spans.
"""

from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import FastAPI
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from opentelemetry.trace import Tracer

from hopwatch.asgi import Requests
from hopwatch.hooks import hook_for
from hopwatch.instrumentor import EitherInstrumentor
from hopwatch.wrapping import Args, Kwargs, Patches

try:
    from fastapi.telemetry._asgi import NativeTelemetry
except ImportError:  # FastAPI before 0.165
    NativeTelemetry = None  # type: ignore[assignment,misc]


class FastAPIInstrumentor(EitherInstrumentor):
    """Wraps the call of an application; those that OpenTelemetry's own instrumentation took are left to it."""

    library = "fastapi"
    requires = "fastapi >= 0.100, < 1"

    def patch(self, patches: Patches, tracer: Tracer) -> None:
        """Put the recorder around applications, and FastAPI's own tracing to rest."""
        requests = Requests(tracer, "FASTAPI", measured=NativeTelemetry is None, hook=hook_for(self.library))
        patches.wrap(FastAPI, "__call__", requests.answer)
        if NativeTelemetry is not None:
            patches.wrap(NativeTelemetry, "__call__", _Quiet())

    def contribs(self, patches: Patches) -> Sequence[tuple[BaseInstrumentor, dict[str, Any]]]:
        """Return OpenTelemetry's instrumentation, without its spans for every part of a request."""
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor as Contrib

        return [(Contrib(), {"exclude_spans": ["receive", "send"]})]


class _Quiet:
    """Runs FastAPI's own telemetry without its spans: a request has one, and that is ours."""

    def __init__(self) -> None:
        self._copies: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    async def __call__(
        self, wrapped: Callable[..., Awaitable[None]], telemetry: Any, args: Args, kwargs: Kwargs
    ) -> None:
        quiet = self._copies.get(telemetry)
        if quiet is None:
            quiet = self._copies[telemetry] = copy(telemetry)
            quiet.config = {**telemetry.config, "tracing": False}
        await wrapped.__func__(quiet, *args, **kwargs)  # type: ignore[attr-defined]  # a bound method
