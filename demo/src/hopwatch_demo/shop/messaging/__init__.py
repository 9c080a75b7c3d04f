"""One adapter per broker, all of the same shape: `nats.py`, `rabbitmq.py`, `kafka.py` around the `Bus` of `bus.py`."""

from hopwatch_demo.catalogue import Broker
from hopwatch_demo.shop.messaging.bus import Bus, Desk

__all__ = ["Bus", "Desk", "connect"]


async def connect(broker: Broker, url: str, desk: Desk) -> Bus:
    """Connect to a broker; its client library is imported only here."""
    if broker is Broker.NATS:
        from hopwatch_demo.shop.messaging.nats import NatsBus

        return await NatsBus.connect(url, desk)
    if broker is Broker.RABBITMQ:
        from hopwatch_demo.shop.messaging.rabbitmq import RabbitBus

        return await RabbitBus.connect(url, desk)
    from hopwatch_demo.shop.messaging.kafka import KafkaBus

    return await KafkaBus.connect(url, desk)
