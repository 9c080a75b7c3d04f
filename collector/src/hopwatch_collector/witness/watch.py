"""Asks a witness from time to time and writes down what changed since its last look."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, Protocol

import structlog

from hopwatch_collector.metrics import Metrics
from hopwatch_collector.witness.cancelled import pass_on, strays_as_errors
from hopwatch_collector.witness.model import GONE, HIDDEN, Claim, Look, Place, Position, Witness, WitnessAway
from hopwatch_collector.witness.written import (
    JUST_BEFORE,
    Stand,
    Title,
    Written,
    claims_of,
    follows,
    key_of,
    succeeds,
)

_log = structlog.get_logger("hopwatch.witness")

EVERY_S: Final = 1.0
SLOWEST_S: Final = 30.0
_DUTY: Final = 20.0
"""A witness rests for so many times as long as its look took, so that asking takes a twentieth of its time at most,"""
LONGEST_REST_S: Final = 12.0
"""but never longer than this while the broker answers: what it last said is stale to the judge after 30 s, the look included."""
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

_LASTING: Final = frozenset({"kafka"})
"""Kinds of brokers that never call themselves otherwise: what tells another identity is another broker."""

_ADDING: Final = frozenset({"rabbitmq-firehose"})
"""Kinds of witnesses that add to another one of the same broker, whose watch says what the broker is called."""

Rows = Sequence[Sequence[Any]]
_ELSEWHERE: Final = "another collector watches it"


class Writes(Protocol):
    """Of the engine's client, what a watch calls; blocks."""

    def write(self, table: str, columns: Sequence[str], rows: Rows) -> None:
        """Insert rows. Raises EngineUnavailable."""

    def standing_claims(self, system: str, resource: int) -> list[Mapping[str, Any]]:
        """Return the claims a watch has written and not taken back: pattern, receiver, durable, broker."""

    def standing_places(self, system: str, resource: int, told: Sequence[str]) -> list[Mapping[str, Any]]:
        """Return how what a watch, or another of a broker of these identities, has written and not taken back last stood:
        receiver, partition, destination, broker, incarnation, stands."""


class Leases(Protocol):
    """Of what is shared out among collectors, what a watch asks."""

    def held(self, job: str) -> bool:
        """Whether a job is ours right now."""


class Watch:
    """One witness, asked until cancelled. Its failures are told in `trouble`, in `watches` and in the metrics."""

    def __init__(
        self,
        witness: Witness,
        store: Writes,
        metrics: Metrics,
        leases: Leases | None = None,
        name: str = "",
        before: Sequence["Watch"] = (),
    ) -> None:
        """`leases`: who watches, where several collectors could; None: we do. `name`: what the broker is called; `before`: watches
        that go first where they turn out to be of the same broker.
        """
        self._witness = witness
        self._leases = leases
        self._store = store
        self._metrics = metrics
        self._name = name or witness.broker
        self._before = [other for other in before if other.system == witness.system]
        # By the address: a broker that is given another name is still the one whose claims were written.
        self._id = int.from_bytes(
            blake2b(f"{witness.system} {witness.broker}".encode(), digest_size=8).digest(), "big"
        )
        self._written = Written()
        self._known = False
        self._tried = asyncio.Event()
        self.identities: frozenset[str] = frozenset()
        """What the broker said it is, when it was last asked."""
        self.trouble: str | None = "not asked yet"
        """Why the broker cannot be asked right now; None when it can."""

    @property
    def system(self) -> str:
        """The kind of broker: `kafka`, `nats`, `rabbitmq`, or `rabbitmq-firehose`."""
        return self._witness.system

    @property
    def broker(self) -> str:
        """What the broker is called: the name it was given, else its address without a password."""
        return self._name

    async def run(self) -> None:
        """Look, write, rest; faster while things change, slower while they do not or the broker is away."""
        rest = EVERY_S
        try:
            for other in self._before:
                await other._tried.wait()
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
                    rest = min(max(rest, took * _DUTY), LONGEST_REST_S)
                await asyncio.sleep(rest)
        finally:
            await self._witness.close()

    def _ours(self) -> bool:
        """Whether to watch falls to us right now."""
        return self._leases is None or self._leases.held(f"watch {self.system} {self.broker}")

    async def _stand_by(self) -> None:
        """Leave the broker to another collector for now; what it writes is learnt when it is our turn again."""
        if self._known or self.trouble != _ELSEWHERE:
            self._known, self._written, self.trouble = False, Written(), _ELSEWHERE
            self.identities = frozenset()
            self._tried.set()
            await self._witness.close()
        await asyncio.sleep(EVERY_S)

    async def once(self) -> bool:
        """Look once and write down what changed; return whether anything did."""
        began = time.monotonic()
        at = datetime.now(UTC)
        look: Look | None = None
        hidden: Mapping[Place, str] = {}
        twin: Watch | None = None
        try:
            with strays_as_errors():
                look = await self._witness.look()
            self.identities = frozenset(look.identities)
            twin = self._twin()
            await asyncio.to_thread(self._recall, look)
            if twin is None:
                await asyncio.to_thread(self._identify, at, look)
                with strays_as_errors():
                    hidden = await self._hidden(look)
            told = (_same(twin) if twin else "", *look.blind, *dict.fromkeys(hidden.values()))
            trouble = "; ".join(filter(None, told)) or None
        except WitnessAway as away:
            look, trouble = None, str(away)
        except Exception as error:  # noqa: BLE001 - a client library may raise anything; the next look may work
            look, trouble = None, f"{type(error).__name__}: {error}"
        finally:
            self._tried.set()
        took = time.monotonic() - began
        self._count(look, trouble, took)
        try:
            if twin is not None:
                await asyncio.to_thread(self._give_up, at)
                return False
            return await asyncio.to_thread(self._write, at, look, hidden, trouble, took)
        except Exception as error:  # noqa: BLE001 - a row the engine does not take must not end the watch
            _log.warning(
                "not written down",
                witness=self.system,
                broker=self.broker,
                error=f"{type(error).__name__}: {error}",
            )
            return False

    def _twin(self) -> "Watch | None":
        """The watch before this one that is of the same broker."""
        return next((other for other in self._before if other.identities & self.identities), None)

    async def _hidden(self, look: Look) -> Mapping[Place, str]:
        known = self._written.stands
        missing = [place for place in known if place not in look.positions and place not in look.gone]
        return await self._witness.hidden(missing) if missing else {}

    def _count(self, look: Look | None, trouble: str | None, took: float) -> None:
        if trouble != self.trouble:
            _log.info("witness", system=self.system, broker=self.broker, trouble=trouble or "none")
        self.trouble = trouble
        metrics, labels = self._metrics, (self.system, self.broker)
        metrics.witness_up.labels(*labels).set(0 if look is None else 1)
        metrics.witness_looks.labels(*labels, "failed" if look is None else "ok").inc()
        metrics.witness_seconds.labels(*labels).inc(took)
        if look is not None:
            metrics.witness_requests.labels(*labels).inc(look.requests)

    def _write(
        self, at: datetime, look: Look | None, hidden: Collection[Place], trouble: str | None, took: float
    ) -> bool:
        if not self._ours():  # it was when the look began, which may have taken long
            return False
        changed = look is not None and self._write_look(at, look, hidden)
        self._write_watch(at, look, trouble, took)
        return changed

    def _recall(self, look: Look) -> None:
        """Learn what an earlier run wrote: what has gone since must be taken back."""
        if self._known:
            return
        for row in self._store.standing_claims(self.system, self._id):
            claim = Claim(row["pattern"], row["receiver"], bool(row["durable"]))
            self._written.titles[key_of(claim)] = Title(claim, row["first_at"], row["broker"])
        for row in self._store.standing_places(self.system, self._id, look.identities):
            place = Place(row["receiver"], row["partition"], row["destination"])
            numbers = dict(zip(_NUMBERS, row["stands"], strict=True))
            position = Position(**numbers, incarnation=row["incarnation"])
            self._written.stands[place] = Stand(position, row["broker"], row["last_at"])
        self._known = True

    def _identify(self, at: datetime, look: Look) -> None:
        """Write down under what the broker of this name is known, before anything is written under it."""
        written = self._written
        if look.identities:
            written.identity = look.identities[0]
        if self.system in _LASTING:
            self._leave(at, written.identity)
        recalled = () if written.told else written.brokers()
        new = {told for told in (*look.identities, *recalled) if told} - written.told
        if new and self.system not in _ADDING:
            rows = [[self.system, told, self.broker] for told in sorted(new)]
            self._store.write("brokers", _BROKER_COLUMNS, rows)
            written.told |= new

    def _leave(self, at: datetime, identity: str) -> None:
        """Where another broker answers at this address, take back what was of the former one: it is not here any more."""
        if not identity:
            return
        written, kept = self._written, ("", identity)
        titles = {key: title for key, title in written.titles.items() if title.broker not in kept}
        stands = {place: stand for place, stand in written.stands.items() if stand.broker not in kept}
        if titles:
            write_claims(self._store, [self._end_row(title, at) for title in titles.values()])
        if stands:
            self._store.write(
                "receiver_states", _PLACED_COLUMNS, list(self._gone_rows(at - JUST_BEFORE, stands))
            )
        written.titles = {key: title for key, title in written.titles.items() if key not in titles}
        written.stands = {place: stand for place, stand in written.stands.items() if place not in stands}

    def _give_up(self, at: datetime) -> None:
        """Take back what was claimed, as another watch does that now; what was said of places is the same from there."""
        titles = self._written.titles.values()
        if titles and self._ours():
            write_claims(self._store, [self._end_row(title, at) for title in titles])
        self._written = Written()

    def _write_look(self, at: datetime, look: Look, hidden: Collection[Place]) -> bool:
        written = self._written
        repeat = time.monotonic() >= written.repeat_at
        renew = time.monotonic() >= written.renew_at
        before, identity = written.titles, written.identity
        kept_out = before if look.partial else claims_of(before, hidden)
        now = kept_out | {
            key_of(claim): succeeds(claim, before.get(key_of(claim)), at, identity) for claim in look.claims
        }
        begun = [title for key, title in now.items() if title.says_more_than(before.get(key))]
        ended = [title for key, title in before.items() if key not in now or now[key].broker != title.broker]
        kept = [
            title
            for key, title in now.items()
            if key in before and (repeat if title.claim.durable else renew) and title.claim in look.claims
        ]
        rows = [
            *(self._claim_row(title, at, first=title.began) for title in begun),
            # A title that lasts has one beginning, which must not go with the day it was first written on; the others are a
            # string of reports, as services make them.
            *(self._claim_row(title, at, first=title.began if title.claim.durable else at) for title in kept),
            *(self._end_row(title, self._ended_at(title.claim, look, at)) for title in ended),
            *(row for claim in look.brief for row in self._brief_rows(claim, look, at)),
        ]
        if rows:
            write_claims(self._store, rows)
        if look.sightings:
            self._store.write("sightings", _SIGHTING_COLUMNS, list(self._sighting_rows(look)))
        if look.told:
            self._write_told(look)
        left, changed = self._write_positions(at, look, hidden, repeat=repeat)
        written.titles, written.looked_at = now, at
        if repeat:
            written.repeat_at = time.monotonic() + _REPEAT_EVERY_S
        if renew:
            written.renew_at = time.monotonic() + _RENEW_EVERY_S
        news = look.sightings or any(one.kind != "gap" for one in look.told)
        return bool(begun or ended or left or news or (changed and not repeat))

    def _write_positions(
        self, at: datetime, look: Look, hidden: Collection[Place], *, repeat: bool
    ) -> tuple[bool, bool]:
        """Write how receivers stand where that changed; return whether any have gone, and whether any stand otherwise."""
        before = self._written.stands
        identity = self._written.identity
        now = {
            place: follows(position, before.get(place), identity, at)
            for place, position in look.positions.items()
        } | {
            place: replace(before[place], position=replace(before[place].position, state=HIDDEN))
            for place in hidden
        }
        # What was deleted and is there again was gone before it was seen again.
        deleted = [
            row
            for place, when in look.gone.items()
            for row in self._gone_rows(
                min(when, at - JUST_BEFORE), {place: before.get(place, Stand(GONE, identity))}
            )
        ]
        gone = {
            place: stand for place, stand in before.items() if place not in now and place not in look.gone
        }
        # Between the last look at the one and this at the other nobody knows which of them was there.
        replaced = [
            row
            for place, stand in now.items()
            if place in before and place not in look.gone and stand.is_another(before[place])
            for row in self._gone_rows(before[place].seen_at + JUST_BEFORE, {place: before[place]})
        ]
        made = [
            row
            for place, (when, position) in look.made.items()
            if (place in look.gone or place not in before) and place in now and when < at
            for row in self._state_rows(when, {place: replace(now[place], position=position)})
        ]
        moved = {
            place: stand
            for place, stand in now.items()
            if repeat or place in look.gone or before.get(place) != stand
        }
        rows = [
            *deleted,
            *replaced,
            *made,
            *self._state_rows(at, moved, before),
            *self._gone_rows(at, gone),
        ]
        if rows:
            self._store.write("receiver_states", _PLACED_COLUMNS, rows)
        self._written.stands = now
        return bool(gone or deleted or replaced), bool(moved)

    def _write_told(self, look: Look) -> None:
        """Write down what was told of single messages; those whose senders tell nothing themselves become known by it."""
        told, broker = look.told, self._written.identity
        rows = [
            [one.at.date(), one.message, one.receiver, one.kind, one.at, one.number, broker] for one in told
        ]
        self._store.write("told", _TOLD_COLUMNS, rows)
        nameless = [one for one in told if one.alias]
        if nameless:
            sent = [
                [one.at.date(), one.message, one.at, one.at, "rabbitmq", one.words, "confirmed", broker]
                for one in nameless
            ]
            self._store.write("ledger", _SENT_COLUMNS, sent)
            aliases = [[one.at.date(), one.alias, one.message] for one in nameless]
            self._store.write("aliases", ("day", "alias", "message"), aliases)

    def _claim_row(self, title: Title, at: datetime, *, first: datetime, ended: bool = False) -> list[Any]:
        claim = title.claim
        last, left = (_NEVER, at) if ended else (max(at, claim.since or at), _NEVER)
        return [
            at.date(), self.system, claim.pattern, claim.receiver, int(claim.durable), self._id,
            at.replace(second=at.second // 15 * 15, microsecond=0), claim.consumer, first, last, left, title.broker,
        ]  # fmt: skip

    def _end_row(self, title: Title, at: datetime) -> list[Any]:
        return self._claim_row(title, at, first=_FAR, ended=True)

    def _ended_at(self, claim: Claim, look: Look, at: datetime) -> datetime:
        """When a title ended: as told, but after it was last seen; else now."""
        told = look.ended.get((claim.pattern.rpartition("\x1f")[2], claim.receiver), at)
        return min(max(told, self._written.looked_at + JUST_BEFORE), at)

    def _brief_rows(self, claim: Claim, look: Look, at: datetime) -> Iterable[list[Any]]:
        """Of a title that began and ended since the last look: both."""
        ended = self._ended_at(claim, look, at)
        title = Title(claim, min(claim.since or ended, ended), self._written.identity)
        yield self._claim_row(title, title.began, first=title.began)
        yield self._end_row(title, ended + JUST_BEFORE)

    def _sighting_rows(self, look: Look) -> Iterable[list[Any]]:
        for seen in look.sightings:
            yield [
                seen.at.date(), self.system, seen.receiver, seen.partition, seen.offset, seen.kind, seen.attempts,
                seen.at, seen.reason[:256], self._written.identity,
            ]  # fmt: skip

    def _state_rows(
        self, at: datetime, stands: Mapping[Place, Stand], before: Mapping[Place, Stand] | None = None
    ) -> Iterable[list[Any]]:
        """How receivers stand; `before`: how they stood at the last look."""
        for place, stand in stands.items():
            yield [
                at.date(), self.system, place.destination, place.receiver, place.partition, at, *astuple(stand.position),
                stand.broker, before[place].seen_at if before and place in before else _NEVER,
            ]  # fmt: skip

    def _gone_rows(self, at: datetime, stands: Mapping[Place, Stand]) -> Iterable[list[Any]]:
        return self._state_rows(at, {place: stand.gone() for place, stand in stands.items()})

    def _write_watch(self, at: datetime, look: Look | None, trouble: str | None, took: float) -> None:
        """Say that the witness looked: after what it saw, because this vouches for all that was not written anew."""
        written = self._written
        if trouble == written.trouble and time.monotonic() < written.watch_at:
            return
        row = [
            at.date(), self.system, self.broker, at, int(look is not None), (trouble or "")[:512],
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


def _same(twin: Watch) -> str:
    """That two watches are of one broker, in words; of RabbitMQ that may only be what it calls itself."""
    told = f"the same broker is watched as {twin.broker} already: what is seen from here is not written down"
    if not twin.system.startswith("rabbitmq"):
        return told
    return f"{told} (if they are two, they have the same name: rabbitmqctl set_cluster_name)"


CLAIM_COLUMNS: Final = (
    "day", "system", "pattern", "receiver", "durable", "resource", "span_of_time", "service", "first_at", "last_at",
    "unsubscribed_at", "broker",
)  # fmt: skip
_SIGHTING_COLUMNS: Final = (
    "day", "system", "receiver", "partition", "offset", "kind", "attempts", "at", "reason", "broker",
)  # fmt: skip
STATE_COLUMNS: Final = (
    "day", "system", "destination", "receiver", "partition", "at", "first", "end", "next", "done", "waiting", "in_hand",
    "consumers", "oldest_at", "published", "handed", "acked", "ttl_ms", "max_length", "dead_letters", "state",
    "uncounted",
    "heard_from",
)  # fmt: skip
_PLACED_COLUMNS: Final = (*STATE_COLUMNS, "incarnation", "kind", "broker", "unchanged_until")
_TOLD_COLUMNS: Final = ("day", "message", "receiver", "kind", "at", "number", "broker")
_SENT_COLUMNS: Final = (
    "day",
    "message",
    "started_at",
    "ended_at",
    "system",
    "destination",
    "outcome",
    "broker",
)
_BROKER_COLUMNS: Final = ("system", "told", "name")
POLL_COLUMNS: Final = ("day", "system", "broker", "at", "ok", "trouble", "requests", "took_ms")
