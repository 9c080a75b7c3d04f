"""audit: keeps book of every event, and of what ended dead-lettered."""

import asyncio

from hopwatch_demo.catalogue import DEAD, INVOICED, PLACED
from hopwatch_demo.shop.messaging.bus import Done, Incoming
from hopwatch_demo.shop.service import Service, work

NAME = "audit"


async def note(incoming: Incoming) -> Done:
    """Note it; the record of it is all that is needed."""
    return Done.WELL


async def start(service: Service, tasks: asyncio.TaskGroup) -> None:
    """Listen to events and to the dead letters."""
    for kind in (PLACED, INVOICED, DEAD):
        await service.listen(kind, note, tasks)


if __name__ == "__main__":
    work(NAME, start)
