"""analytics: counts orders, slowly."""

import asyncio

import hopwatch
from hopwatch_demo.catalogue import PLACED
from hopwatch_demo.faults import SLOW, SLOW_S
from hopwatch_demo.shop.messaging.bus import Done, Incoming
from hopwatch_demo.shop.service import Service, work

NAME = "analytics"


async def start(service: Service, tasks: asyncio.TaskGroup) -> None:
    """Listen to placed orders."""
    takes_s = SLOW_S if SLOW.name in service.settings.faults else 0.0

    async def count(incoming: Incoming) -> Done:
        await asyncio.sleep(takes_s)
        return Done.WELL

    await service.listen(PLACED, count, tasks)


if __name__ == "__main__":
    hopwatch.instrument(service=NAME)
    work(NAME, start)
