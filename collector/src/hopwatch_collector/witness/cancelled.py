"""Whose cancellation it is: the running task's own, which must pass, or one that a client library lets show through."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def strays_as_errors() -> Iterator[None]:
    """Let the running task's own cancellation pass; that of a client library's task was a connection given up.

    Raises:
        ConnectionAbortedError: the library cancelled what was waited for.
    """
    before = _cancellations()
    try:
        yield
    except asyncio.CancelledError as stray:
        if _cancellations() > before:
            raise
        raise ConnectionAbortedError("given up by the client library") from stray


def pass_on() -> None:
    """Raise the running task's own cancellation where a client library swallowed it, as aiokafka's does when it stops."""
    if _cancellations():
        raise asyncio.CancelledError


def _cancellations() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0
