"""loyalty: gives points for each order, and carelessly commits past some it never read (Kafka only)."""

import asyncio

import hopwatch
from hopwatch_demo.catalogue import REWARD, Broker
from hopwatch_demo.faults import SKIP
from hopwatch_demo.shop.messaging.bus import Done, Incoming
from hopwatch_demo.shop.messaging.kafka import KafkaBus
from hopwatch_demo.shop.service import Service, work

NAME = "loyalty"


async def give(incoming: Incoming) -> Done:
    """Give the points; the record of it is all that is needed."""
    return Done.WELL


async def start(service: Service, tasks: asyncio.TaskGroup) -> None:
    """Listen to rewards."""
    bus = service.buses.get(Broker.KAFKA)
    if isinstance(bus, KafkaBus) and SKIP.name in service.settings.faults:
        tasks.create_task(await bus.listen_carelessly(REWARD, give))
    else:
        await service.listen(REWARD, give, tasks)


if __name__ == "__main__":
    hopwatch.instrument(service=NAME)
    work(NAME, start)
