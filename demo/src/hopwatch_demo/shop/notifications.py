"""notifications: tells customers what happened to their order."""

import asyncio

from hopwatch_demo.catalogue import INVOICED, PLACED
from hopwatch_demo.shop.messaging.bus import Done, Incoming
from hopwatch_demo.shop.service import Service, work

NAME = "notifications"


async def notify(incoming: Incoming) -> Done:
    """Tell the customer; the record of it is all that is needed."""
    return Done.WELL


async def start(service: Service, tasks: asyncio.TaskGroup) -> None:
    """Listen to placed and invoiced orders."""
    await service.listen(PLACED, notify, tasks)
    await service.listen(INVOICED, notify, tasks)


if __name__ == "__main__":
    work(NAME, start)
