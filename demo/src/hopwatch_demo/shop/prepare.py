"""Creates the streams, exchanges and topics the shop needs, before its services start."""

import asyncio

from hopwatch_demo.catalogue import Broker
from hopwatch_demo.shop.settings import Settings


async def prepare(settings: Settings) -> None:
    """Prepare every broker there is; what exists already stays."""
    for broker, url in settings.brokers.items():
        if broker is Broker.NATS:
            from hopwatch_demo.shop.messaging import nats

            await nats.prepare(url)
        elif broker is Broker.RABBITMQ:
            from hopwatch_demo.shop.messaging import rabbitmq

            await rabbitmq.prepare(url)
        else:
            from hopwatch_demo.shop.messaging import kafka

            await kafka.prepare(url)


if __name__ == "__main__":
    asyncio.run(prepare(Settings.from_environment()))
