"""JetStream's advisories: what the server said of single messages, and from where on nothing it said was missed.

A consumer's floor passes acknowledged, terminated and given-up messages alike, and only advisories, which are sent once,
tell them apart. So a position says from which offset on all of them were heard.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from nats.aio.msg import Msg

from hopwatch_collector.witness.answers import MALFORMED, moment, name, number, words
from hopwatch_collector.witness.model import UNTOLD, Place, Position, Sighting

ADVISORIES: Final = "$JS.EVENT.ADVISORY.CONSUMER.>"
MAX_SIGHTINGS: Final = 10_000
"""Advisories kept between two looks; with more than that, some were missed."""
_KINDS: Final = {
    "io.nats.jetstream.advisory.v1.max_deliver": "max_deliveries",
    "io.nats.jetstream.advisory.v1.terminated": "terminated",
}

_REMOVED: Final = frozenset({"Message deleted by stream limits", "Unacknowledged message was deleted"})
"""Reasons with which the server terminates itself what is no longer in the stream: its consumer said nothing of it."""


@dataclass(frozen=True, slots=True)
class Holes:
    """Offsets that are missing from the middle of a stream."""

    missing: frozenset[int] = frozenset()
    new: frozenset[int] = frozenset()
    """Those that were not missing at the last look."""

    def left(self, start: int, end: int) -> int:
        """Return how many messages are there from `start` to before `end`, as far as is known."""
        return end - start - sum(1 for offset in self.missing if start <= offset < end)


@dataclass(frozen=True, slots=True)
class _Consumer:
    """How a consumer stood at the last look, with the offset from which on all was heard."""

    created: str
    handed: int
    next: int
    done: int
    floor: int
    sure: int
    """The same where all that is missing is known to have been settled."""
    since: int
    unhanded: int
    """Of what is newly missing, that from `unhanded` on was never handed to it; between the two that is in doubt."""


EVEN: Final = "even"
ODD: Final = "odd"


class Accounts:
    """Of streams that let go of what was settled: whether all that is missing was settled by their consumers.

    Only where nothing moved between two looks are both sides of the same moment.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self._begun: dict[str, tuple[frozenset[str], int, int]] = {}
        self._last: dict[str, tuple[int, int]] = {}

    def clear(self) -> None:
        """Begin anew."""
        self._begun.clear()
        self._last.clear()

    def of(self, stream: str, consumers: frozenset[str], missing: int, settled: int) -> str:
        """Return `EVEN` where as many messages went as were settled since all of these consumers are known, `ODD` where it was not
        so many, which begins them anew, and nothing where that cannot be told yet.

        `missing`: how many of the stream's messages are not there any more; `settled`: how many deliveries have ended.
        """
        rests = self._last.get(stream) == (missing, settled)
        self._last[stream] = missing, settled
        begun = self._begun.get(stream)
        if begun is None or begun[0] != consumers:
            self._begun[stream] = consumers, missing, settled
            return ""
        if not rests:
            return ""
        if missing - begun[1] == settled - begun[2]:
            return EVEN
        self._begun[stream] = consumers, missing, settled
        return ODD


class Hearing:
    """Listens on one connection at a time."""

    def __init__(self) -> None:
        """Begin deaf."""
        self._seen: list[Sighting] = []
        self._consumers: dict[Place, _Consumer] = {}
        self._fresh = True
        self._missed = False
        self.refused = ""
        """Why advisories may not be heard at all."""

    @property
    def fresh(self) -> bool:
        """Whether something may have been said before this look that was not heard."""
        return self._fresh

    def connected(self) -> None:
        """Listen on a new connection."""
        self.missed()
        self.refused = ""

    def missed(self) -> None:
        """Note that something was said and not heard."""
        self._missed = True

    def look(self) -> None:
        """A look begins."""
        if self._missed:
            self._consumers.clear()
            self._fresh, self._missed = True, False

    async def advised(self, message: Msg) -> None:
        """An advisory came: what was given up is noted for the next look."""
        with suppress(*MALFORMED):
            said = json.loads(message.data)
            kind = _KINDS.get(said["type"])
            if kind is None:
                return
            if len(self._seen) >= MAX_SIGHTINGS:
                self.missed()
                return
            stream, reason = name(said["stream"]), words(said.get("reason", ""))
            if kind == "terminated" and reason in _REMOVED:
                kind = "removed"
            self._seen.append(
                Sighting(
                    name(f"{stream}/{name(said['consumer'])}"), stream, number(said["stream_seq"]), kind,
                    min(number(said.get("deliveries", 0)), 2**32 - 1), moment(said["timestamp"]),
                    reason,
                )
            )  # fmt: skip

    def heard(self) -> tuple[Sighting, ...]:
        """Return what was said since this was last asked."""
        seen, self._seen = self._seen, []
        return tuple(seen)

    def position(
        self, place: Place, created: str, now: Position, holes: Holes, *, takes_all: bool, accounts: str = ""
    ) -> Position:
        """Return a position with the offset from which on all was heard.

        `takes_all`: whether all of the stream is for it; `accounts`: of its stream, see `Accounts`.
        """
        handed = now.handed
        before = self._consumers.get(place)
        known = before if before is not None and before.created == created else None
        since = unhanded = now.next
        if known is None:
            sure = floor = _untouched(now) if self._fresh else 0
        else:
            sure = known.sure
            # What was removed from the stream before it was settled is passed by the consumer's floor all the same.
            floor = max(known.floor, now.first) if now.first > known.done else known.floor
            # So is what was removed from its middle; unless that is known, all that it went past is in doubt.
            left = holes.left(max(known.next, now.first), now.next)
            since = known.next
            if takes_all and handed - known.handed == left:
                unhanded = since
            elif takes_all and handed - known.handed < left:
                floor = max(floor, now.next)
            if accounts == EVEN:
                floor, unhanded = sure, since
            elif accounts == ODD:
                sure = floor
        self._consumers[place] = _Consumer(created, handed, now.next, now.done, floor, sure, since, unhanded)
        heard_from = UNTOLD if self.refused else floor
        if known is not None and handed == known.handed and now.first > known.next:
            # A purge sets the consumer behind what it removes. Nothing was handed out since: it still stood there.
            return replace(now, heard_from=heard_from, next=known.next, done=known.done)
        return replace(now, heard_from=heard_from)

    def became(self, place: Place, offset: int) -> str:
        """Return what is to be said of a newly missing offset for a consumer; nothing if it was past it before."""
        consumer = self._consumers[place]
        if offset >= consumer.unhanded:
            return "removed"
        return "ended unheard" if offset >= consumer.since else ""

    def looked(self, positions: Mapping[Place, Position], *, complete: bool) -> dict[Place, Position]:
        """A look is over; return its positions as they are to be told.

        After a complete look, whatever is new at the next one has been heard from its start.
        """
        if complete:
            self._consumers = {place: self._consumers[place] for place in positions}
            self._fresh = False
        if not self._missed:
            return dict(positions)
        return {place: replace(position, heard_from=position.next) for place, position in positions.items()}


def _untouched(position: Position) -> int:
    """The offset from which on nothing can have been settled yet, at a first look.

    Between the floor and the last one handed out some may be settled, unless all of them are in hand.
    """
    in_hand = position.in_hand >= position.next - position.done
    return position.done if in_hand else position.next
