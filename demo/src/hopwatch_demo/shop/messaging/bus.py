"""What all adapters share: the letter they carry, the record they keep, the steps of sending and receiving."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import hopwatch
from hopwatch_demo.catalogue import Broker, Kind, message_event
from hopwatch_demo.truth import Act, Record

FROZEN: Final = "FROZEN"
"""File in the folder of records; while it exists, nobody takes further messages."""

RETRY_S: Final = 0.1
"""Seconds between looks at a closed gate."""


@dataclass(frozen=True, slots=True)
class Letter:
    """The payload of every message. `event` is the ground truth's own id; `fault` tells the receiver what to suffer."""

    event: str
    order: str
    fault: str = ""

    def encode(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read it back.

        Raises:
            ValueError, TypeError: it is not one.
        """
        return cls(**json.loads(body))


class Done(StrEnum):
    """How a handler wants its message settled."""

    WELL = "well"
    POISON = "poison"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as a handler gets it: on which broker, what it says, and where its answer goes, if it wants one."""

    broker: Broker
    letter: Letter
    reply_to: str = ""
    correlation: str = ""


Handler = Callable[[Incoming], Awaitable[Done]]


@dataclass(frozen=True, slots=True)
class Sent:
    """How a send came back, and where the message lies if the broker said so."""

    how: str
    partition: int = -1
    offset: int = -1


class Gate:
    """Closed while the world is frozen for the report; those who pull messages pass through it before each."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FROZEN

    @property
    def closed(self) -> bool:
        """Whether the world is frozen."""
        return self._file.exists()

    async def passed(self) -> None:
        """Return as soon as it is open."""
        while self.closed:  # noqa: ASYNC110 — another process opens it
            await asyncio.sleep(RETRY_S)


@dataclass(frozen=True, slots=True)
class Desk:
    """What an adapter works with: the service's name, its record, the gate."""

    service: str
    record: Record
    gate: Gate


class Bus(ABC):
    """One service's connection to one broker. Every step is in the record before it is taken."""

    broker: ClassVar[Broker]

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def send(self, kind: Kind, order: str, fault: str = "") -> None:
        """Send one message of a kind for an order; the ledger's key `event` will be the ground truth's id."""
        letter = self.letter(kind, order, fault)
        with hopwatch.tag(event=letter.event):
            self.sending(kind, letter)
            sent = await self.publish(kind, letter)
            self.sent(kind, letter, sent)

    async def respond(self, kind: Kind, incoming: Incoming) -> None:
        """Answer a request with a message of its own."""
        letter = self.letter(kind, incoming.letter.order)
        with hopwatch.tag(event=letter.event):
            self.sending(kind, letter)
            sent = await self.reply(kind, letter, incoming)
            self.sent(kind, letter, sent)

    def letter(self, kind: Kind, order: str, fault: str = "") -> Letter:
        """Return the payload for a kind and an order."""
        return Letter(message_event(order, self.broker, kind), order, fault)

    def sending(self, kind: Kind, letter: Letter) -> None:
        """Record that a message is about to be sent."""
        self.desk.record.write(Act.SENDING, event=letter.event, kind=kind.name, broker=self.broker)

    def sent(self, kind: Kind, letter: Letter, sent: Sent) -> None:
        """Record how a send came back."""
        self.desk.record.write(
            Act.SENT,
            event=letter.event,
            kind=kind.name,
            broker=self.broker,
            how=sent.how,
            partition=sent.partition,
            offset=sent.offset,
        )

    def listening(self, kind: Kind, receiver: str) -> None:
        """Record that `receiver` gets every message of a kind from now on."""
        self.desk.record.write(Act.LISTENING, kind=kind.name, broker=self.broker, receiver=receiver)

    def received(self, kind: Kind, letter: Letter, receiver: str) -> None:
        """Record a handing-over."""
        self.desk.record.write(
            Act.RECEIVED, event=letter.event, kind=kind.name, broker=self.broker, receiver=receiver
        )

    def settling(self, kind: Kind, letter: Letter, receiver: str, how: str) -> None:
        """Record how a message is about to be settled."""
        self.desk.record.write(
            Act.SETTLED, event=letter.event, kind=kind.name, broker=self.broker, receiver=receiver, how=how
        )

    async def ask(self, question: Kind, answer: Kind, order: str) -> None:
        """Send a request whose answer comes as a message of its own; `listen` to that kind beforehand."""
        await self.send(question, order)

    @abstractmethod
    async def publish(self, kind: Kind, letter: Letter) -> Sent:
        """Hand a message to the broker."""

    @abstractmethod
    async def reply(self, kind: Kind, letter: Letter, incoming: Incoming) -> Sent:
        """Hand the answer to a request to the broker."""

    @abstractmethod
    async def listen(self, kind: Kind, handler: Handler) -> Coroutine[Any, Any, None]:
        """Subscribe; return when subscribed, with what handles one message after another until cancelled."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""


async def forever() -> None:
    """Never return: the client library calls back by itself."""
    await asyncio.Event().wait()
