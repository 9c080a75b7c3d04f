"""JetStream's streams that copy from others: what comes into them, and where it lies in the one it was sent to.

A mirror keeps the sequence numbers. A stream with sources numbers anew: where it has one source, and has copied all of it from
the first message on, the numbers are the same.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from hopwatch_collector.witness.answers import MALFORMED, name, number
from hopwatch_collector.witness.model import UNTOLD, Place, Position, Sighting


@dataclass(frozen=True, slots=True)
class Origins:
    """Where what is in a stream was sent to."""

    stream: str = ""
    subjects: tuple[str, ...] = ()
    """What comes in, by the subjects that senders use."""
    same: tuple[str, ...] = ()
    """Other streams in which it has the same sequence numbers."""
    other: tuple[str, ...] = ()
    """Other streams in which it has others."""

    @property
    def same_offsets(self) -> bool:
        """Whether messages have the same sequence number wherever they were sent to."""
        return not self.other

    def places(self, positions: Mapping[Place, Position]) -> dict[Place, Position]:
        """How the stream's consumers stand, by the sequence numbers of the streams that were sent to. What waits is told once."""
        own = {
            place: replace(one, waiting=UNTOLD)
            for place, one in positions.items()
            if place.partition == self.stream
        }
        return {
            Place(place.receiver, partition): position if partition in self.same else _elsewhere(position)
            for place, position in own.items()
            for partition in (*self.same, *self.other)
        }

    def sightings(self, told: Iterable[Sighting]) -> Iterator[Sighting]:
        """What was said of messages, by the same sequence numbers."""
        for one in told:
            if one.partition == self.stream:
                yield from (replace(one, partition=partition) for partition in self.same)


@dataclass(slots=True)
class Sources:
    """Of all streams that were listed."""

    _streams: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _aligned: set[tuple[str, str, str]] = field(default_factory=set)
    """Streams whose numbers are known to be those of their only source; by when both were created."""

    def look(self, streams: Iterable[Any]) -> None:
        """Learn of the streams of a look."""
        self._streams = {}
        for stream in streams:
            with suppress(*MALFORMED):
                self._streams[name(stream["config"]["name"])] = stream

    def of(self, stream: Mapping[str, Any]) -> Origins:
        """Return where what is in a stream comes from."""
        config = stream["config"]
        own = name(config["name"])
        subjects = list(config.get("subjects") or ())
        same: list[str] = []
        other: list[str] = []
        for origin, filters, aligned in self._origins(stream):
            known = self._streams.get(origin)
            subjects += filters or (known["config"].get("subjects") if known else None) or ()
            if known is not None and origin != own:
                (same if aligned else other).append(origin)
        clean = tuple(dict.fromkeys(name(subject) for subject in subjects))
        return Origins(
            own,
            clean,
            tuple(dict.fromkeys(same)),
            tuple(dict.fromkeys(one for one in other if one not in same)),
        )

    def _origins(self, stream: Mapping[str, Any]) -> Iterator[tuple[str, list[str], bool]]:
        """Every stream that this one copies from, what it takes of it, and whether the numbers are the same.

        One that it copies from in several ways comes once.
        """
        ahead: list[tuple[Mapping[str, Any], list[str], bool]] = [(stream, [], True)]
        seen: set[str] = set()
        while ahead:
            copy, wanted, aligned = ahead.pop()
            mirror = copy["config"].get("mirror")
            for source in (*((mirror,) if mirror else ()), *(copy["config"].get("sources") or ())):
                if source.get(
                    "external"
                ):  # the subjects of another account's or domain's stream are not ours
                    continue
                origin = name(source["name"])
                filters = wanted or _filters(source)
                same = aligned and (source is mirror or self._is_aligned(copy, source))
                yield origin, filters, same
                if origin in self._streams and origin not in seen:
                    seen.add(origin)
                    ahead.append((self._streams[origin], filters, same))

    def _is_aligned(self, stream: Mapping[str, Any], source: Mapping[str, Any]) -> bool:
        config = stream["config"]
        known = self._streams.get(source["name"])
        only = len(config.get("sources") or ()) == 1 and not config.get("subjects")
        whole = not (_filters(source) or source.get("opt_start_seq") or source.get("opt_start_time"))
        if known is None or not (only and whole):
            return False
        which = (str(config["name"]), str(stream.get("created")), str(known.get("created")))
        here, there = stream["state"], known["state"]
        if not there.get("num_deleted") and number(here["last_seq"]) == number(there["last_seq"]) > 0:
            self._aligned.add(which)
        return which in self._aligned


def _filters(source: Mapping[str, Any]) -> list[str]:
    """The subjects that are taken of a source, as its senders use them; none: all."""
    transformed = [one.get("src") or "" for one in source.get("subject_transforms") or ()]
    return [one for one in (source.get("filter_subject") or "", *transformed) if one]


def _elsewhere(position: Position) -> Position:
    """How a consumer stands by numbers that are not known: all waits where nothing was ever handed out."""
    if position.handed == 0:
        return replace(position, first=0, next=0, done=0)
    return Position(in_hand=position.in_hand, consumers=position.consumers, incarnation=position.incarnation)
