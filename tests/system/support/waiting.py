"""Waiting for conditions, always with a deadline."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hopwatch_demo.patience import scale_wait

T = TypeVar("T")

LOOK_EVERY_S = 0.2
_never = threading.Event()


class NotInTime(AssertionError):
    """What was waited for did not happen before the deadline; the message holds what was seen last."""


def eventually(
    look: Callable[[], T], accept: Callable[[T], object] = bool, *, within: float = 60.0, what: str = ""
) -> T:
    """Look until what is seen is acceptable, and return it.

    Raises:
        NotInTime: `within` seconds have passed.
    """
    deadline = time.monotonic() + scale_wait(within)
    while True:
        seen = look()
        if accept(seen):
            return seen
        if time.monotonic() > deadline:
            raise NotInTime(
                f"{what or 'the condition'} did not hold within {scale_wait(within):g} s; last seen: {seen!r}"
            )
        _never.wait(LOOK_EVERY_S)


async def eventually_async(look: Callable[[], Awaitable[object]], *, within: float = 60.0, what: str) -> None:
    """Look until what is seen is true.

    Raises:
        NotInTime: `within` seconds have passed.
    """
    try:
        async with asyncio.timeout(scale_wait(within)):
            while not await look():
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        raise NotInTime(f"{what} was not there within {scale_wait(within):g} s") from None
