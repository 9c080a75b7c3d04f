"""What the shop sends: every kind of message, its pattern and the services that should receive it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Broker(StrEnum):
    """The brokers an order can travel over."""

    NATS = "nats"
    RABBITMQ = "rabbitmq"
    KAFKA = "kafka"


ALL: Final = frozenset(Broker)


class Pattern(StrEnum):
    """How many receivers a message has, and whether it answers one."""

    COMMAND = "command"
    """One receiver."""
    EVENT = "event"
    """Every receiver that subscribed gets its own copy."""
    REQUEST = "request"
    """One receiver, which answers later with a message of its own."""
    REPLY = "reply"
    """The answer."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of message; `receivers` are names of services."""

    name: str
    pattern: Pattern
    receivers: tuple[str, ...]
    brokers: frozenset[Broker] = ALL


BILL: Final = Kind("bill", Pattern.COMMAND, ("billing",))
PLACED: Final = Kind("placed", Pattern.EVENT, ("shipping", "notifications", "audit", "analytics"))
QUOTE: Final = Kind("quote", Pattern.REQUEST, ("pricing",))
QUOTED: Final = Kind("quoted", Pattern.REPLY, ("orders",))
INVOICED: Final = Kind("invoiced", Pattern.EVENT, ("notifications", "audit"))
REWARD: Final = Kind("reward", Pattern.COMMAND, ("loyalty",), frozenset({Broker.KAFKA}))
INSPECT: Final = Kind("inspect", Pattern.COMMAND, ("inspection",))
GIFT: Final = Kind("gift", Pattern.EVENT, ())
NOWHERE: Final = Kind("nowhere", Pattern.COMMAND, (), frozenset({Broker.NATS, Broker.RABBITMQ}))
DEAD: Final = Kind("dead", Pattern.COMMAND, ("audit",), frozenset({Broker.RABBITMQ, Broker.KAFKA}))
"""Dead-lettered bills: RabbitMQ moves them itself, on Kafka billing forwards them. NATS has no such queue."""

KINDS: Final = (BILL, PLACED, QUOTE, QUOTED, INVOICED, REWARD, INSPECT, GIFT, NOWHERE, DEAD)


def call_event(order: str, called: str) -> str:
    """Return the ground truth's id of the call of one service for one order."""
    return f"{order}.call.{called}"


def message_event(order: str, broker: Broker, kind: Kind) -> str:
    """Return the ground truth's id of one message: each kind is sent once per order and broker."""
    return f"{order}.{broker}.{kind.name}"


def order_name(number: int) -> str:
    """Return the name of an order, as it appears in every event of its own."""
    return f"o{number:05d}"
