"""The faults the shop commits on purpose: what each strikes, on which brokers, and the verdict to expect."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hopwatch_demo.catalogue import BILL, GIFT, INSPECT, NOWHERE, PLACED, REWARD, Broker, Kind

CRASH_AFTER_S: Final = 2.5
"""Seconds a handler works before it crashes: long enough that its attempt was reported while open."""

SLOW_S: Final = 1.6
"""Seconds the slow consumer needs for each message."""

SKIP_AFTER: Final = 5
"""Records the loyalty group processes before it passes over one unread."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. It strikes orders number `first`, `first + every`, …; `every` 0: only once; `first` 0: any."""

    name: str
    does: str
    kind: Kind
    service: str
    verdicts: dict[Broker, str]
    first: int = 0
    every: int = 0
    again: bool = False
    """Whether the message must have been handed over more than once."""

    def strikes(self, order: int) -> bool:
        """Whether this order is one of those it strikes."""
        if self.first == 0:
            return False
        return order == self.first or (self.every > 0 and order % self.every == self.first % self.every)


NOBODY: Final = Fault(
    "nobody-subscribed",
    "an event is published that no service has subscribed to",
    GIFT,
    "",
    dict.fromkeys(Broker, "no_receiver"),
    first=2,
    every=8,
)
UNROUTABLE: Final = Fault(
    "unroutable",
    "RabbitMQ: a mandatory message matches no binding and comes back; NATS: a JetStream publish to a subject "
    "that no stream covers; Kafka has no such thing, a topic exists or it does not",
    NOWHERE,
    "",
    {Broker.NATS: "returned", Broker.RABBITMQ: "returned"},
    first=4,
    every=8,
)
POISON: Final = Fault(
    "poison",
    "billing cannot handle a bill and refuses it for good: NATS terminates it, RabbitMQ moves it to the "
    "dead-letter queue, on Kafka billing forwards a copy to the dead-letter topic and commits (so it is settled)",
    BILL,
    "billing",
    {Broker.NATS: "dead_lettered", Broker.RABBITMQ: "dead_lettered", Broker.KAFKA: "settled"},
    first=5,
    every=10,
)
CRASH: Final = Fault(
    "crash",
    "shipping's process dies in the middle of its first attempt; restarted, it gets the message again",
    PLACED,
    "shipping",
    dict.fromkeys(Broker, "settled"),
    first=7,
    every=40,
    again=True,
)
HANG: Final = Fault(
    "hang",
    "inspection takes the message and never finishes",
    INSPECT,
    "inspection",
    dict.fromkeys(Broker, "stuck"),
    first=6,
)
SLOW: Final = Fault(
    "slow",
    f"analytics needs {SLOW_S} s for each event and falls behind; what it has not reached is overdue",
    PLACED,
    "analytics",
    dict.fromkeys(Broker, "overdue"),
)
SKIP: Final = Fault(
    "skip",
    f"after every {SKIP_AFTER} records loyalty commits past one it has not read; only Kafka can show it, since "
    "an acknowledgement there is a position: elsewhere it names a message, and an unread one looks handled",
    REWARD,
    "loyalty",
    {Broker.KAFKA: "skipped"},
)

FAULTS: Final = {fault.name: fault for fault in (NOBODY, UNROUTABLE, POISON, CRASH, HANG, SLOW, SKIP)}
"""Every fault by the name it is switched by."""


def choose(only: Iterable[str], without: Iterable[str]) -> frozenset[str]:
    """Return the names of the faults to commit: those in `only`, or all, minus those in `without`.

    Raises:
        ValueError: a name is not that of a fault.
    """
    only, without = frozenset(only), frozenset(without)
    unknown = (only | without) - set(FAULTS)
    if unknown:
        raise ValueError(f"no such fault: {', '.join(sorted(unknown))}; there are: {', '.join(FAULTS)}")
    return (only or frozenset(FAULTS)) - without
