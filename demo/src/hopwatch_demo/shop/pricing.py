"""pricing: answers each request for a quote with a message of its own."""

import asyncio

import hopwatch
from hopwatch_demo.catalogue import QUOTE, QUOTED
from hopwatch_demo.shop.messaging.bus import Done, Incoming
from hopwatch_demo.shop.service import Service, work

NAME = "pricing"


async def start(service: Service, tasks: asyncio.TaskGroup) -> None:
    """Listen to requests."""

    async def answer(incoming: Incoming) -> Done:
        await service.buses[incoming.broker].respond(QUOTED, incoming)
        return Done.WELL

    await service.listen(QUOTE, answer, tasks)


if __name__ == "__main__":
    hopwatch.instrument(service=NAME)
    work(NAME, start)
