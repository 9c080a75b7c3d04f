"""The demo's command: how it is left."""

import asyncio
import os
import signal
from contextlib import suppress

import pytest

from hopwatch_demo.cli import interrupt


async def stubborn() -> None:
    """A client that is interrupted, and goes on all the same when it is cancelled for that."""
    with suppress(asyncio.CancelledError):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(30)


def test_an_interrupt_ends_the_demo_whatever_a_client_makes_of_it() -> None:
    """Ctrl-C at a moment when a client swallows the cancellation that asyncio makes of it is an interrupt all the same."""
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(stubborn())
    finally:
        signal.signal(signal.SIGINT, before)
