"""What a broker is to those who use one: a name, a state, where to reach it."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a broker comes from."""

    REAL = "real"
    """Started here, on its own ports and directories."""
    GIVEN = "given"
    """Already running: an environment variable points at it."""
    MISSING = "missing"
    """Not to be had; `Broker.reason` says why."""
    UNUSED = "unused"
    """Nobody asked for it."""


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker as it was found or started."""

    name: str
    """`nats`, `rabbitmq` or `kafka`."""
    state: State
    version: str = ""
    """As the running broker itself tells; empty when it does not."""
    url: str = ""
    """What a client connects to: `nats://…`, `amqp://…`, or Kafka's `host:port` bootstrap."""
    management_url: str = ""
    """RabbitMQ's management HTTP API (guest:guest included), without a trailing slash."""
    monitoring_url: str = ""
    """NATS's monitoring endpoint, or RabbitMQ's Prometheus endpoint, without a trailing slash."""
    reason: str = ""
    """Why it is missing."""

    @property
    def available(self) -> bool:
        """Whether there is a broker to connect to."""
        return self.state in (State.REAL, State.GIVEN)

    def __str__(self) -> str:
        tail = f" ({self.reason})" if self.reason else f" {self.version}" if self.version else ""
        return f"{self.name} {self.state}{tail}"


class BrokerMissing(Exception):
    """A broker cannot be had; the message is the reason, in words for people."""
