"""shipping: one process per broker, each of which may crash in the middle of an order."""

import asyncio
import os

import hopwatch
from hopwatch_demo.catalogue import PLACED
from hopwatch_demo.faults import CRASH, CRASH_AFTER_S
from hopwatch_demo.shop.messaging.bus import Done, Incoming
from hopwatch_demo.shop.service import Service, work

NAME = "shipping"
CRASHED = 70
"""Exit status of a crash on purpose."""


async def start(service: Service, tasks: asyncio.TaskGroup) -> None:
    """Listen to placed orders."""

    async def handle(incoming: Incoming) -> Done:
        if incoming.letter.fault == CRASH.name:
            await crash_once(incoming.letter.event)
        return Done.WELL

    async def crash_once(event: str) -> None:
        mark = service.settings.records / f"{event}.crashed"
        if mark.exists():
            return
        await asyncio.sleep(CRASH_AFTER_S)
        mark.touch()
        os._exit(CRASHED)  # no clean-up, no flush: what a kill or a segfault does

    await service.listen(PLACED, handle, tasks)


if __name__ == "__main__":
    hopwatch.instrument(service=NAME)
    work(NAME, start)
