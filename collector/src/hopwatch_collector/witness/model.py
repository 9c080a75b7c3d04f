"""What every witness has in common: what it sees at one look, and how it is asked."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
UNTOLD: Final = -1

OTHERWISE: Final = "otherwise\x1f"
"""Before a pattern: it counts only for messages that no other pattern lets through."""
MAYBE: Final = "maybe\x1f"
"""Before a pattern: it lets through what it ought not to, as more than the destination decides."""
EXACTLY: Final = "exactly\x1f"
"""Before a pattern: what looks like wildcards in it is none."""
DELAYED: Final = "delayed\x1f"
"""Before a pattern: what it lets through may come to the receiver later than it was sent, and uncounted."""


def in_partition(partition: object) -> str:
    """Return what stands before a pattern that is about one partition only."""
    return f"partition {partition}\x1f"


def from_offset(offset: int) -> str:
    """Return what stands before a pattern that is about what lies at an offset or behind it."""
    return f"from {offset}\x1f"


@dataclass(frozen=True, slots=True)
class Claim:
    """One receiver's title to a destination pattern, in the broker's own wildcards (see `receivers`).

    `OTHERWISE`, `MAYBE`, `EXACTLY`, `DELAYED`, `in_partition` and `from_offset` may stand before it.
    """

    pattern: str
    receiver: str
    durable: bool = True
    """Whether the broker keeps messages for it while nobody is connected."""
    since: datetime | None = None
    """When the title began, where the broker tells; None: it was there when first looked at."""
    consumer: str = ""
    """Service or client behind it, where the broker tells."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a position is of."""

    receiver: str
    partition: str = ""
    """Kafka partition, JetStream stream; empty for a queue."""
    destination: str = ""
    """Kafka's topic; empty where receiver and partition say it all."""


@dataclass(frozen=True, slots=True)
class Position:
    """How a receiver stands at one place. Offsets and counts are -1 where the broker does not tell."""

    first: int = UNTOLD
    """Offset of the oldest message still held. Of a queue: when its counters began, in seconds since 1970."""
    end: int = UNTOLD
    """Offset of the next message to be written."""
    next: int = UNTOLD
    """Offset of the next message to be handed to this receiver."""
    done: int = UNTOLD
    """All offsets before this one are settled."""
    waiting: int = UNTOLD
    in_hand: int = UNTOLD
    """Handed out and not settled."""
    consumers: int = UNTOLD
    oldest_at: datetime = NEVER
    """When the oldest waiting message was sent."""
    published: int = UNTOLD
    """Counters since the queue was declared: messages routed to it, deliveries, acknowledgements."""
    handed: int = UNTOLD
    acked: int = UNTOLD
    ttl_ms: int = UNTOLD
    max_length: int = UNTOLD
    dead_letters: bool = False
    """Whether what is dropped goes to a dead-letter exchange."""
    state: str = ""
    """`gone`, `hidden` (may still be there, but the witness cannot see it: the rest is how it last stood), `paused`,
    `empty` (nobody reads), `members untold`, `compacted` (later records of a key take the place of earlier ones), or nothing
    to remark."""
    uncounted: bool = False
    """Whether messages may come to a queue that `published` does not count: RabbitMQ counts no dead letters."""
    heard_from: int = UNTOLD
    """JetStream: of offsets from this one on, every advisory of giving up and terminating was heard; -1: of none."""
    incarnation: str = ""
    """Which thing of that name it is, as one may be deleted and another made: Kafka's topic id; when a stream and its consumer
    were created; of a queue when it was declared, in ms. Empty where nobody tells. Offsets and counters of two say nothing of
    each other."""
    kind: str = ""
    """What the receiver is where that is more than a queue or a group: `stream`, a queue which keeps its messages for whoever
    reads it; `unordered`, one which hands them out otherwise than they came in; `made up`, a group with a name for one run."""


GONE: Final = Position(state="gone")
HIDDEN: Final = "hidden"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a broker said of one message."""

    receiver: str
    partition: str
    offset: int
    kind: str
    """`max_deliveries`, `terminated`; where nothing is left at that offset: `removed` unread, `ended unheard` if that is in
    doubt; in Kafka `compacted` or `aborted`."""
    attempts: int
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What a broker told of one message."""

    message: bytes
    """Its key, 16 bytes."""
    kind: str
    """`published`, `routed` to a receiver, `handed` out by it, `ttl`; `gap`: of no message, but that some may be missing before."""
    at: datetime
    receiver: str = ""
    number: int = 0
    """ttl: milliseconds; handed: 1 if it had been handed out before."""
    words: str = ""
    """published: the destination, where the sender tells nothing itself."""
    alias: str = ""
    """The application's own id, where the key is made of it."""


@dataclass(frozen=True, slots=True)
class Look:
    """Everything a witness saw at one look."""

    claims: frozenset[Claim] = frozenset()
    positions: dict[Place, Position] = field(default_factory=dict)
    sightings: tuple[Sighting, ...] = ()
    requests: int = 0
    """What the look cost the broker."""
    blind: tuple[str, ...] = ()
    """What it was not allowed or able to see, in words."""
    partial: bool = False
    """Whether a list could not be had: claims missing from this look may still hold."""
    told: tuple[Told, ...] = ()
    """What was said of single messages."""
    ended: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    """By pattern (without marks) and receiver: when titles ended that are no longer there, where that is known."""
    brief: tuple[Claim, ...] = ()
    """Titles that began and ended since the last look; when, is in `ended`."""
    gone: Mapping[Place, datetime] = field(default_factory=dict)
    """When receivers were deleted since the last look; some may be there again."""
    made: Mapping[Place, tuple[datetime, Position]] = field(default_factory=dict)
    """When receivers were made that may not have been there at the last look, and how they stood then."""
    identities: tuple[str, ...] = ()
    """What the broker says it is, as its clients are told it: first to this witness, then to others of the same broker. Empty
    where it does not tell."""


class WitnessAway(Exception):
    """The broker cannot be asked; the message says why and what to do, in words for people."""


class Witness(Protocol):
    """Asks one broker. Used by one task; after WitnessAway it is asked again later."""

    system: str
    broker: str
    """The broker's address without a password; whoever watches it may call it otherwise."""

    async def look(self) -> Look:
        """Connect if need be, and see how everything stands.

        Raises:
            WitnessAway: it cannot be asked now.
        """
        ...

    async def hidden(self, missing: Collection[Place]) -> Mapping[Place, str]:
        """Return which of these places may still be there, and in words why they cannot be seen.

        `missing` were seen before and are not in the look just made. The others are gone.

        Raises:
            WitnessAway: it cannot be asked now.
        """
        ...

    async def close(self) -> None:
        """Disconnect; safe to call twice and without a look."""
        ...
