"""Asks a witness from time to time and writes down what changed since its last look."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final, Protocol

import structlog

from hopwatch_collector.metrics import Metrics
from hopwatch_collector.witness.cancelled import pass_on, strays_as_errors
from hopwatch_collector.witness.model import GONE, HIDDEN, Claim, Look, Place, Position, Witness, WitnessAway

_log = structlog.get_logger("hopwatch.witness")

EVERY_S: Final = 1.0
SLOWEST_S: Final = 30.0
_DUTY: Final = 20.0
"""A witness rests for so many times as long as its look took, so that asking costs a broker at most a twentieth of a core."""
_IDLE_FACTOR: Final = 1.5
"""While nothing changes, looks grow rarer by this, up to `IDLE_S`."""
IDLE_S: Final = 5.0
_WATCH_EVERY_S: Final = 10.0
_RENEW_EVERY_S: Final = 15.0
"""Claims that last only while somebody is connected are written again so often: unrenewed, they end after 45 s."""
_REPEAT_EVERY_S: Final = 900.0
"""Positions and claims are written again after so long though they did not change: old days are dropped."""

_NUMBERS: Final = ("first", "end", "next", "done", "waiting", "in_hand", "consumers", "heard_from")
"""Of a position, what is remembered of how a place last stood."""

_FAR: Final = datetime(2299, 1, 1, tzinfo=UTC)
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

Rows = Sequence[Sequence[Any]]
_Key = tuple[str, str, bool]
_ELSEWHERE: Final = "another collector watches it"


class Writes(Protocol):
    """Of the engine's client, what a watch calls; blocks."""

    def write(self, table: str, columns: Sequence[str], rows: Rows) -> None:
        """Insert rows. Raises EngineUnavailable."""

    def standing_claims(self, system: str, resource: int) -> list[Mapping[str, Any]]:
        """Return the claims a watch has written and not taken back: pattern, receiver, durable."""

    def standing_places(self, system: str, resource: int) -> list[Mapping[str, Any]]:
        """Return what positions a watch has written that have not gone: receiver, partition, destination."""


@dataclass(slots=True)
class _Written:
    """What the engine has of a witness's last look."""

    claims: dict[_Key, tuple[Claim, datetime]] = field(default_factory=dict)
    """Each with when its title began."""
    positions: dict[Place, Position] = field(default_factory=dict)
    looked_at: datetime = _NEVER
    repeat_at: float = 0.0
    renew_at: float = 0.0
    watch_at: float = 0.0
    trouble: str | None = None


class Leases(Protocol):
    """Of what is shared out among collectors, what a watch asks."""

    def held(self, job: str) -> bool:
        """Whether a job is ours right now."""


class Watch:
    """One witness, asked until cancelled. Its failures are told in `trouble`, in `watches` and in the metrics."""

    def __init__(
        self, witness: Witness, store: Writes, metrics: Metrics, leases: Leases | None = None
    ) -> None:
        """`leases`: who watches, where several collectors could; None: we do."""
        self._witness = witness
        self._leases = leases
        self._store = store
        self._metrics = metrics
        self._id = int.from_bytes(
            blake2b(f"{witness.system} {witness.broker}".encode(), digest_size=8).digest(), "big"
        )
        self._written = _Written()
        self._known = False
        self.trouble: str | None = "not asked yet"
        """Why the broker cannot be asked right now; None when it can."""

    @property
    def system(self) -> str:
        """The kind of broker: `kafka`, `nats` or `rabbitmq`."""
        return self._witness.system

    @property
    def broker(self) -> str:
        """The broker's address without a password."""
        return self._witness.broker

    async def run(self) -> None:
        """Look, write, rest; faster while things change, slower while they do not or the broker is away."""
        rest = EVERY_S
        try:
            while True:
                if not self._ours():
                    await self._stand_by()
                    continue
                began = time.monotonic()
                changed = await self.once()
                pass_on()
                took = time.monotonic() - began
                if self.trouble is not None:
                    rest = min(rest * 2, SLOWEST_S)
                else:
                    rest = EVERY_S if changed else min(rest * _IDLE_FACTOR, IDLE_S)
                    rest = min(max(rest, took * _DUTY), SLOWEST_S)
                await asyncio.sleep(rest)
        finally:
            await self._witness.close()

    def _ours(self) -> bool:
        """Whether to watch falls to us right now."""
        return self._leases is None or self._leases.held(f"watch {self.system} {self.broker}")

    async def _stand_by(self) -> None:
        """Leave the broker to another collector for now; what it writes is learnt when it is our turn again."""
        if self._known or self.trouble != _ELSEWHERE:
            self._known, self._written, self.trouble = False, _Written(), _ELSEWHERE
            await self._witness.close()
        await asyncio.sleep(EVERY_S)

    async def once(self) -> bool:
        """Look once and write down what changed; return whether anything did."""
        began = time.monotonic()
        at = datetime.now(UTC)
        look: Look | None = None
        hidden: Mapping[Place, str] = {}
        try:
            await asyncio.to_thread(self._recall)
            with strays_as_errors():
                look = await self._witness.look()
                hidden = await self._hidden(look)
            trouble = "; ".join((*look.blind, *dict.fromkeys(hidden.values()))) or None
        except WitnessAway as away:
            look, trouble = None, str(away)
        except Exception as error:  # noqa: BLE001 - a client library may raise anything; the next look may work
            look, trouble = None, f"{type(error).__name__}: {error}"
        took = time.monotonic() - began
        self._count(look, trouble, took)
        try:
            return await asyncio.to_thread(self._write, at, look, hidden, trouble, took)
        except Exception as error:  # noqa: BLE001 - a row the engine does not take must not end the watch
            _log.warning("not written down", witness=self.system, error=f"{type(error).__name__}: {error}")
            return False

    async def _hidden(self, look: Look) -> Mapping[Place, str]:
        known = self._written.positions
        missing = [place for place in known if place not in look.positions and place not in look.gone]
        return await self._witness.hidden(missing) if missing else {}

    def _count(self, look: Look | None, trouble: str | None, took: float) -> None:
        if trouble != self.trouble:
            _log.info("witness", system=self.system, broker=self._witness.broker, trouble=trouble or "none")
        self.trouble = trouble
        metrics = self._metrics
        metrics.witness_up.labels(self.system).set(0 if look is None else 1)
        metrics.witness_looks.labels(self.system, "failed" if look is None else "ok").inc()
        metrics.witness_seconds.labels(self.system).inc(took)
        if look is not None:
            metrics.witness_requests.labels(self.system).inc(look.requests)

    def _write(
        self, at: datetime, look: Look | None, hidden: Collection[Place], trouble: str | None, took: float
    ) -> bool:
        if not self._ours():  # it was when the look began, which may have taken long
            return False
        changed = look is not None and self._write_look(at, look, hidden)
        self._write_watch(at, look, trouble, took)
        return changed

    def _recall(self) -> None:
        """Learn what an earlier run wrote: what has gone since must be taken back."""
        if self._known:
            return
        for row in self._store.standing_claims(self.system, self._id):
            claim = Claim(row["pattern"], row["receiver"], bool(row["durable"]))
            self._written.claims[_key(claim)] = claim, row["first_at"]
        for row in self._store.standing_places(self.system, self._id):
            place = Place(row["receiver"], row["partition"], row["destination"])
            self._written.positions[place] = Position(**dict(zip(_NUMBERS, row["stands"], strict=True)))
        self._known = True

    def _write_look(self, at: datetime, look: Look, hidden: Collection[Place]) -> bool:
        written = self._written
        repeat = time.monotonic() >= written.repeat_at
        renew = time.monotonic() >= written.renew_at
        before = written.claims
        kept_out = before if look.partial else _claims_of(before, hidden)
        now = kept_out | {
            _key(claim): (claim, _began(claim, before.get(_key(claim)), at)) for claim in look.claims
        }
        begun = [claim for key, (claim, began) in now.items() if key not in before or began < before[key][1]]
        ended = [claim for key, (claim, _) in before.items() if key not in now]
        kept = [
            (claim, began)
            for key, (claim, began) in now.items()
            if key in before and (repeat if claim.durable else renew) and claim in look.claims
        ]
        rows = [
            *(self._claim_row(claim, at, first=claim.since or at) for claim in begun),
            # A title that lasts has one beginning, which must not go with the day it was first written on; the others are a
            # string of reports, as services make them.
            *(self._claim_row(claim, at, first=began if claim.durable else at) for claim, began in kept),
            *(
                self._claim_row(claim, self._ended_at(claim, look, at), first=_FAR, ended=True)
                for claim in ended
            ),
            *(row for claim in look.brief for row in self._brief_rows(claim, look, at)),
        ]
        there = look.positions | {place: replace(written.positions[place], state=HIDDEN) for place in hidden}
        gone = {place: GONE for place in written.positions if place not in there}
        moved = {
            place: position
            for place, position in there.items()
            if repeat or written.positions.get(place) != position
        }
        if rows:
            write_claims(self._store, rows)
        if look.sightings:
            self._store.write("sightings", _SIGHTING_COLUMNS, list(self._sighting_rows(look)))
        if look.told:
            self._write_told(look)
        deleted = [
            row for place, when in look.gone.items() for row in self._position_rows(when, {place: GONE})
        ]
        gone = {place: position for place, position in gone.items() if place not in look.gone}
        if moved or gone or deleted:
            rows = [*deleted, *self._position_rows(at, {**moved, **gone})]
            self._store.write("receiver_states", STATE_COLUMNS, rows)
        written.claims, written.looked_at = now, at
        written.positions = there
        if repeat:
            written.repeat_at = time.monotonic() + _REPEAT_EVERY_S
        if renew:
            written.renew_at = time.monotonic() + _RENEW_EVERY_S
        news = look.sightings or any(one.kind != "gap" for one in look.told)
        return bool(begun or ended or gone or deleted or news or (moved and not repeat))

    def _write_told(self, look: Look) -> None:
        """Write down what was told of single messages; those whose senders tell nothing themselves become known by it."""
        told = look.told
        rows = [[one.at.date(), one.message, one.receiver, one.kind, one.at, one.number] for one in told]
        self._store.write("told", _TOLD_COLUMNS, rows)
        nameless = [one for one in told if one.alias]
        if nameless:
            sent = [
                [one.at.date(), one.message, one.at, one.at, "rabbitmq", one.words, "confirmed"]
                for one in nameless
            ]
            self._store.write("ledger", _SENT_COLUMNS, sent)
            aliases = [[one.at.date(), one.alias, one.message] for one in nameless]
            self._store.write("aliases", ("day", "alias", "message"), aliases)

    def _claim_row(self, claim: Claim, at: datetime, *, first: datetime, ended: bool = False) -> list[Any]:
        last, left = (_NEVER, at) if ended else (max(at, claim.since or at), _NEVER)
        return [
            at.date(), self.system, claim.pattern, claim.receiver, int(claim.durable), self._id,
            at.replace(second=at.second // 15 * 15, microsecond=0), claim.consumer, first, last, left,
        ]  # fmt: skip

    def _ended_at(self, claim: Claim, look: Look, at: datetime) -> datetime:
        """When a title ended: as told, but after it was last seen; else now."""
        told = look.ended.get((claim.pattern.rpartition("\x1f")[2], claim.receiver), at)
        return min(max(told, self._written.looked_at + timedelta(microseconds=1)), at)

    def _brief_rows(self, claim: Claim, look: Look, at: datetime) -> Iterable[list[Any]]:
        """Of a title that began and ended since the last look: both."""
        ended = self._ended_at(claim, look, at)
        began = min(claim.since or ended, ended)
        yield self._claim_row(claim, began, first=began)
        yield self._claim_row(claim, ended + timedelta(microseconds=1), first=_FAR, ended=True)

    def _sighting_rows(self, look: Look) -> Iterable[list[Any]]:
        for seen in look.sightings:
            yield [
                seen.at.date(), self.system, seen.receiver, seen.partition, seen.offset, seen.kind, seen.attempts,
                seen.at, seen.reason[:256],
            ]  # fmt: skip

    def _position_rows(self, at: datetime, positions: Mapping[Place, Position]) -> Iterable[list[Any]]:
        for place, position in positions.items():
            yield [
                at.date(), self.system, place.destination, place.receiver, place.partition, at, *astuple(position),
            ]  # fmt: skip

    def _write_watch(self, at: datetime, look: Look | None, trouble: str | None, took: float) -> None:
        """Say that the witness looked: after what it saw, because this vouches for all that was not written anew."""
        written = self._written
        if trouble == written.trouble and time.monotonic() < written.watch_at:
            return
        row = [
            at.date(), self.system, self._witness.broker, at, int(look is not None), (trouble or "")[:512],
            look.requests if look else 0, int(took * 1000),
        ]  # fmt: skip
        self._store.write("watches", POLL_COLUMNS, [row])
        written.trouble, written.watch_at = trouble, time.monotonic() + _WATCH_EVERY_S


def write_claims(store: Writes, rows: Rows) -> None:
    """Write claims, each by CLAIM_COLUMNS, into the table for those that last and the one for those that do not."""
    durable, moment = CLAIM_COLUMNS.index("durable"), CLAIM_COLUMNS.index("span_of_time")
    lasting = [row for row in rows if row[durable]]
    brief = [row for row in rows if not row[durable]]
    for table, left_out, some in (
        ("durable_subscriptions", {durable, moment}, lasting),
        ("brief_subscriptions", {durable}, brief),
    ):
        if some:
            columns = [name for at, name in enumerate(CLAIM_COLUMNS) if at not in left_out]
            store.write(
                table,
                columns,
                [[value for at, value in enumerate(row) if at not in left_out] for row in some],
            )


def _began(claim: Claim, known: tuple[Claim, datetime] | None, at: datetime) -> datetime:
    """When a title began: the earliest that was ever told, else when it was first seen."""
    told = claim.since or at
    return told if known is None else min(told, known[1])


def _claims_of(
    claims: Mapping[_Key, tuple[Claim, datetime]], places: Collection[Place]
) -> dict[_Key, tuple[Claim, datetime]]:
    """Of the claims those of receivers at these places; where a place names a destination, to that one."""
    titles = {(place.receiver, place.destination) for place in places}
    return {key: told for key, told in claims.items() if (key[1], "") in titles or (key[1], key[0]) in titles}


def _key(claim: Claim) -> _Key:
    return claim.pattern, claim.receiver, claim.durable


CLAIM_COLUMNS: Final = (
    "day", "system", "pattern", "receiver", "durable", "resource", "span_of_time", "service", "first_at", "last_at",
    "unsubscribed_at",
)  # fmt: skip
_SIGHTING_COLUMNS: Final = (
    "day", "system", "receiver", "partition", "offset", "kind", "attempts", "at", "reason",
)  # fmt: skip
STATE_COLUMNS: Final = (
    "day", "system", "destination", "receiver", "partition", "at", "first", "end", "next", "done", "waiting", "in_hand",
    "consumers", "oldest_at", "published", "handed", "acked", "ttl_ms", "max_length", "dead_letters", "state",
    "uncounted",
    "heard_from",
)  # fmt: skip
_TOLD_COLUMNS: Final = ("day", "message", "receiver", "kind", "at", "number")
_SENT_COLUMNS: Final = ("day", "message", "started_at", "ended_at", "system", "destination", "outcome")
POLL_COLUMNS: Final = ("day", "system", "broker", "at", "ok", "trouble", "requests", "took_ms")
