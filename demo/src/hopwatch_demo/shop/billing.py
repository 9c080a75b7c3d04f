"""billing: sends an invoice for each bill, and cannot stand some of them."""

import asyncio

import hopwatch
from hopwatch_demo.catalogue import BILL, INVOICED
from hopwatch_demo.faults import POISON
from hopwatch_demo.shop.messaging.bus import Done, Incoming
from hopwatch_demo.shop.service import Service, work

NAME = "billing"


async def start(service: Service, tasks: asyncio.TaskGroup) -> None:
    """Listen to bills."""

    async def handle(incoming: Incoming) -> Done:
        if incoming.letter.fault == POISON.name:
            return Done.POISON
        await service.buses[incoming.broker].send(INVOICED, incoming.letter.order)
        return Done.WELL

    await service.listen(BILL, handle, tasks)


if __name__ == "__main__":
    hopwatch.instrument(service=NAME)
    work(NAME, start)
