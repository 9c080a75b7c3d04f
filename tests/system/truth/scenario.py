"""What a round is made of: clients, when they come and go, and what happens to the broker meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from services.truth_spec import CLEAR, FOLLOWS, LOSSY, PLAIN, SAMPLED, SILENT, Client

STAYS: Final = "stays"
LEAVES: Final = "leaves"
KILLED: Final = "killed"
HANGS: Final = "hangs"

PARTS: Final = 3
"""Stretches in which the messages of a round are sent; between them are the moments 1 and 2."""

_TELLING: Final = {PLAIN: 55, SILENT: 25, SAMPLED: 8, FOLLOWS: 6, LOSSY: 6}
_ENDS: Final = {STAYS: 55, LEAVES: 17, KILLED: 16, HANGS: 12}
_SENDERS: Final = {PLAIN: 76, SAMPLED: 12, FOLLOWS: 6, LOSSY: 6}


@dataclass(frozen=True, slots=True)
class Member:
    """A client that receives, and what becomes of it."""

    client: Client
    begins: int = 0
    """The moment at which it begins; 0: before anything is sent."""
    ends: str = STAYS
    at: int = 1
    """The moment at which it ends so."""

    @property
    def clear(self) -> bool:
        """Whether nothing that it does stays untold."""
        return self.client.telling in CLEAR and self.ends != KILLED

    def __str__(self) -> str:
        settings = ",".join(f"{value}" for value in self.client.settings.values())
        shares = ",".join(f"{name} {share:.0%}" for name, share in self.client.shares.items())
        when = (f" from {self.begins}" if self.begins else "") + (
            f" {self.ends} at {self.at}" if self.ends != STAYS else ""
        )
        return (
            f"{self.client.receiver} {self.client.name}: {self.client.telling} ({settings}; {shares}){when}"
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the broker between two stretches, while nothing is sent."""

    what: str
    target: str
    at: int

    def __str__(self) -> str:
        return f"{self.what} {self.target} at {self.at}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One round over one broker; the same for the same seed."""

    broker: str
    seed: str
    run: str
    sender: Client
    members: tuple[Member, ...]
    faults: tuple[Fault, ...]
    topology: Mapping[str, Any]
    """What the broker is to have, in the words of its stage."""

    def of(self, receiver: str) -> list[Member]:
        """Return the members of a receiver."""
        return [member for member in self.members if member.client.receiver == receiver]

    def __str__(self) -> str:
        sender = f"sender {self.sender.telling} {self.sender.settings} {self.sender.shares}"
        parts = [f"{dict(self.topology)}", sender, *map(str, self.members), *map(str, self.faults)]
        return "\n    ".join(parts)


def pick(lot: Random, weights: Mapping[str, int]) -> str:
    """Return one of the names by weight."""
    return lot.choices(list(weights), list(weights.values()))[0]


def draw_telling(lot: Random) -> str:
    """Return how much a receiver tells."""
    return pick(lot, _TELLING)


def draw_sender_telling(lot: Random) -> str:
    """Return how much a sender tells: one that tells nothing has no messages in the ledger."""
    return pick(lot, _SENDERS)


def draw_end(lot: Random) -> tuple[str, int]:
    """Return what becomes of a member, and when."""
    return pick(lot, _ENDS), lot.randint(1, PARTS - 1)


def draw_shares(lot: Random, most: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of some of these fates, each up to its most."""
    return {name: round(lot.uniform(0.01, share), 3) for name, share in most.items() if lot.random() < 0.6}
