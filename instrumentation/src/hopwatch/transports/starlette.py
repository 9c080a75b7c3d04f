"""Starlette: every application, made before or after, answers its requests inside one server span."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from opentelemetry.trace import Tracer
from starlette.applications import Starlette

from hopwatch.asgi import Requests
from hopwatch.hooks import hook_for
from hopwatch.instrumentor import EitherInstrumentor
from hopwatch.wrapping import Args, Kwargs, Patches


class StarletteInstrumentor(EitherInstrumentor):
    """Wraps the call of an application; FastAPI's are FastAPI's own business, chosen or excluded under that name."""

    library = "starlette"
    requires = "starlette >= 0.27, < 2"

    def patch(self, patches: Patches, tracer: Tracer) -> None:
        """Put the recorder around applications."""
        requests = Requests(tracer, "STARLETTE", hook=hook_for(self.library))

        def answer(
            wrapped: Callable[..., Awaitable[None]], app: Starlette, args: Args, kwargs: Kwargs
        ) -> Awaitable[None]:
            return (
                wrapped(*args, **kwargs) if _is_fastapi(app) else requests.answer(wrapped, app, args, kwargs)
            )

        patches.wrap(Starlette, "__call__", answer)

    def contribs(self, patches: Patches) -> Sequence[tuple[BaseInstrumentor, dict[str, Any]]]:
        """Return OpenTelemetry's instrumentation; it cannot be told to leave out spans for every part of a request."""
        contrib: Any = import_module("opentelemetry.instrumentation.starlette")
        quieter = partial(contrib.OpenTelemetryMiddleware, exclude_spans=["receive", "send"])
        patches.replace(contrib, "OpenTelemetryMiddleware", quieter)
        return [(contrib.StarletteInstrumentor(), {})]


def _is_fastapi(app: Starlette) -> bool:
    fastapi = sys.modules.get("fastapi")
    return fastapi is not None and isinstance(app, fastapi.FastAPI)
