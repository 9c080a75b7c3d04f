"""Sending the last spans of a process, whichever way it ends, without holding it up for more than a few seconds."""

import asyncio
import atexit
from typing import Any, Final

import wrapt

from hopwatch.faults import swallowed
from hopwatch.lean.provider import LeanTracerProvider

EXIT_WITHIN_S: Final = 4.0
"""The longest that a process waits at its end for a collector that is gone."""

_SERVER_STOPS_WITHIN_S: Final = 2.0


def say_farewell(provider: LeanTracerProvider) -> None:
    """Send what is left at exit; in `multiprocessing`'s children, which skip that; and when uvicorn stops.

    uvicorn ends its process by the signal it was stopped with, so that nothing registered at exit is called.
    """
    atexit.register(provider.shutdown, int(EXIT_WITHIN_S * 1000))
    wrapt.register_post_import_hook(
        lambda module: _at_end_of_children(module, provider), "multiprocessing.util"
    )
    wrapt.register_post_import_hook(lambda module: _at_end_of_server(module, provider), "uvicorn.server")


def _at_end_of_children(util: Any, provider: LeanTracerProvider) -> None:
    def begun(_: LeanTracerProvider) -> None:
        util.Finalize(None, provider.shutdown, args=(int(EXIT_WITHIN_S * 1000),), exitpriority=-100)

    util.register_after_fork(provider, begun)


def _at_end_of_server(server: Any, provider: LeanTracerProvider) -> None:
    async def stopped(wrapped: Any, _: Any, args: Any, kwargs: Any) -> Any:
        result = await wrapped(*args, **kwargs)
        try:
            await asyncio.to_thread(provider.force_flush, int(_SERVER_STOPS_WITHIN_S * 1000))
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("server stop", fault)
        return result

    try:
        wrapt.wrap_function_wrapper(server, "Server.shutdown", stopped)
    except AttributeError as error:  # a uvicorn built otherwise: it may lose its last half second
        swallowed("uvicorn", error)
