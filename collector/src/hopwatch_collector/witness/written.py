"""What the engine has of a watch's last look: titles and places, each with the identity of the broker it was first seen under."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from hopwatch_collector.witness.model import GONE, Claim, Place, Position

JUST_BEFORE: Final = timedelta(microseconds=1)
"""The least by which the engine tells moments apart."""
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

Key = tuple[str, str, bool]
"""Of a title: pattern, receiver, whether it lasts."""


@dataclass(frozen=True, slots=True)
class Title:
    """A claim as it was written."""

    claim: Claim
    began: datetime
    broker: str
    """The identity that the broker had when the title was first seen: all of its rows have it, so that its end meets them."""

    def says_more_than(self, before: "Title | None") -> bool:
        """Whether it is new, or began earlier than was known, or is now known to be of a broker."""
        return before is None or self.began < before.began or self.broker != before.broker


@dataclass(frozen=True, slots=True)
class Stand:
    """How a receiver stood at a place when that was last written."""

    position: Position
    broker: str
    """The identity that the broker had when the place was first seen."""
    seen_at: datetime = field(default=_NEVER, compare=False)
    """When it was last seen so."""

    def is_another(self, before: "Stand") -> bool:
        """Whether this is known to be of another thing of the same name than before: made anew, or at another broker."""
        told = self.position.incarnation, before.position.incarnation
        return all(told) and told[0] != told[1]

    def gone(self) -> "Stand":
        """Return what is said of it once it has been deleted."""
        return replace(self, position=replace(GONE, incarnation=self.position.incarnation))


@dataclass(slots=True)
class Written:
    """All that was written of one broker."""

    titles: dict[Key, Title] = field(default_factory=dict)
    stands: dict[Place, Stand] = field(default_factory=dict)
    identity: str = ""
    """What the broker last said it is."""
    told: set[str] = field(default_factory=set)
    """Identities of which was written what the broker is called."""
    looked_at: datetime = _NEVER
    repeat_at: float = 0.0
    renew_at: float = 0.0
    watch_at: float = 0.0
    trouble: str | None = None

    def brokers(self) -> set[str]:
        """Return the identities that what was written has."""
        return {one.broker for one in self.titles.values()} | {one.broker for one in self.stands.values()}


def key_of(claim: Claim) -> Key:
    """Return what makes a claim the same as another, whatever else is told of it."""
    return claim.pattern, claim.receiver, claim.durable


def succeeds(claim: Claim, known: Title | None, at: datetime, identity: str) -> Title:
    """Return the title that a claim seen now is: since the earliest that was ever told, else since it was first seen."""
    told = claim.since or at
    if known is None:
        return Title(claim, told, identity)
    return Title(claim, min(told, known.began), known.broker or identity)


def follows(position: Position, known: Stand | None, identity: str, at: datetime) -> Stand:
    """Return how a receiver stands now at a place that may be known."""
    return Stand(position, (known.broker if known else "") or identity, at)


def claims_of(titles: Mapping[Key, Title], places: Collection[Place]) -> dict[Key, Title]:
    """Return the titles of receivers at these places; where a place names a destination, to that one."""
    named = {(place.receiver, place.destination) for place in places}
    return {
        key: told
        for key, told in titles.items()
        if (key[1], "") in named or (key[1], key[0].rpartition("\x1f")[2]) in named
    }
