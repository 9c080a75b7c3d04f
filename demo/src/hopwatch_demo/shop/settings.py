"""What a service of the shop is told by its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from hopwatch_demo.catalogue import Broker

PREFIX = "HOPWATCH_DEMO_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are. Addresses of services are `host:port`; a broker without a URL does not run."""

    records: Path = Path(".demo/records")
    gateway: str = "127.0.0.1:8081"
    orders: str = "127.0.0.1:8082"
    payments: str = "127.0.0.1:8083"
    rate: float = 2.0
    faults: frozenset[str] = frozenset()
    brokers: Mapping[Broker, str] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read `HOPWATCH_DEMO_RECORDS`, `_GATEWAY`, `_ORDERS`, `_PAYMENTS`, `_RATE`, `_FAULTS`, `_NATS`, `_RABBITMQ`,
        `_KAFKA`; what is absent keeps its default, and `_ONLY` names the one broker a worker process serves.
        """
        said = {
            name.removeprefix(PREFIX): value for name, value in environ.items() if name.startswith(PREFIX)
        }
        only = said.get("ONLY", "")
        brokers = {
            broker: said[broker.name]
            for broker in Broker
            if said.get(broker.name) and (not only or broker == only)
        }
        return cls(
            records=Path(said.get("RECORDS", ".demo/records")),
            gateway=said.get("GATEWAY", "127.0.0.1:8081"),
            orders=said.get("ORDERS", "127.0.0.1:8082"),
            payments=said.get("PAYMENTS", "127.0.0.1:8083"),
            rate=float(said.get("RATE", "2")),
            faults=frozenset(filter(None, said.get("FAULTS", "").split(","))),
            brokers=brokers,
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that say the same to another process."""
        return {
            f"{PREFIX}RECORDS": str(self.records),
            f"{PREFIX}GATEWAY": self.gateway,
            f"{PREFIX}ORDERS": self.orders,
            f"{PREFIX}PAYMENTS": self.payments,
            f"{PREFIX}RATE": str(self.rate),
            f"{PREFIX}FAULTS": ",".join(sorted(self.faults)),
            **{f"{PREFIX}{broker.name}": url for broker, url in self.brokers.items()},
        }


def host_and_port(address: str) -> tuple[str, int]:
    """Split `host:port`.

    Raises:
        ValueError: there is no port, or it is not a number.
    """
    host, _, port = address.rpartition(":")
    return host, int(port)
