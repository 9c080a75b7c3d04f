"""inspection: takes what it is given and never finishes with it."""

import asyncio

import hopwatch
from hopwatch_demo.catalogue import INSPECT
from hopwatch_demo.shop.messaging.bus import Done, Incoming, forever
from hopwatch_demo.shop.service import Service, work

NAME = "inspection"


async def inspect(incoming: Incoming) -> Done:
    """Hang."""
    await forever()
    return Done.WELL


async def start(service: Service, tasks: asyncio.TaskGroup) -> None:
    """Listen to what is to be inspected."""
    await service.listen(INSPECT, inspect, tasks)


if __name__ == "__main__":
    hopwatch.instrument(service=NAME)
    work(NAME, start)
