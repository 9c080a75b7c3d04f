"""Under `opentelemetry-instrument`: what hopwatch knows better than the instrumentations loaded before, it takes over."""

import os
from importlib.metadata import EntryPoint, entry_points

from hopwatch.faults import swallowed
from hopwatch.setup import instrument, transports

_INSTRUMENTORS = "opentelemetry_instrumentor"
_OTHERWISE_CALLED = {
    "aiohttp_client": "aiohttp",
    **dict.fromkeys(("grpc_client", "grpc_server", "grpc_aio_client", "grpc_aio_server"), "grpc"),
}
"""Packages and entry points of OpenTelemetry that are not called as the library they instrument."""


def take_over() -> None:
    """Entry point `opentelemetry_post_instrument`: the provider stands, all other instrumentations are in place.

    Spans go to that provider. Names in `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` stay as they are: a library's,
    `hopwatch` for all of ours, `*` for everything.
    """
    disabled = _disabled()
    if disabled & {"*", "hopwatch"}:
        return
    known = {transport.name for transport in transports()}
    ours = known - disabled
    try:
        for found in entry_points(group=_INSTRUMENTORS):
            if _library_of(found) in ours:
                _take_off(found)
        instrument(only=ours)
    except Exception as error:  # noqa: BLE001 — a guest never breaks its host
        swallowed("opentelemetry-instrument", error)


def _disabled() -> set[str]:
    said = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
    names = {name.strip().replace("-", "_") for name in said.split(",")}
    return {_OTHERWISE_CALLED.get(name, name) for name in names}


def _library_of(found: EntryPoint) -> str:
    package = found.module.removeprefix("opentelemetry.instrumentation.")
    return _OTHERWISE_CALLED.get(package, package)


def _take_off(found: EntryPoint) -> None:
    try:
        instrumentor = found.load()()
    except ImportError:
        return  # its library is not installed here
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()
