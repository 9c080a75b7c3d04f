"""Keeps a stream of snapshots coming: connects, reports what arrives and what fails, and tries again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from hopwatch_tui.answers import Live
from hopwatch_tui.client import ApiError

SILENCE_S: Final = 40.0
"""Seconds without a byte after which a connection counts as lost; the collector's heartbeat comes every 15."""

FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Lost:
    """The stream ended; the next try comes in `retry_in_s` seconds."""

    error: ApiError
    retry_in_s: float


Event = Live | ApiError | Lost
"""A snapshot; one that failed; or the end of a connection."""


class Source(Protocol):
    """Where snapshots come from."""

    def live(self, *, window_s: float, silence_s: float) -> AsyncIterator[Live | ApiError]: ...


async def follow(
    source: Source, window_s: float, deliver: Callable[[Event], None], wake: asyncio.Event
) -> None:
    """Deliver snapshots until cancelled. After each loss it waits twice as long, at most 10 s; `wake` cuts that short."""
    delay = FIRST_RETRY_S
    while True:
        try:
            async for event in source.live(window_s=window_s, silence_s=SILENCE_S):
                delay = FIRST_RETRY_S
                deliver(event)
        except ApiError as error:
            deliver(Lost(error, delay))
        wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):  # wait_for of 3.11 can swallow a cancellation
                await wake.wait()
        delay = min(delay * 2, LAST_RETRY_S)
