"""NATS: JetStream's streams, consumers and advisories; who is subscribed to plain subjects.

Needs to request `$JS.API.STREAM.LIST`, `$JS.API.CONSUMER.LIST.*` and to subscribe `$JS.EVENT.ADVISORY.CONSUMER.>`, and
`$JS.API.STREAM.INFO.*` to find what work queues kept and what was removed from the middle of streams; for plain subjects, the monitoring endpoint (`/connz?subs=1`).
"""

import asyncio
import json
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final
from urllib.parse import urlsplit

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import SlowConsumerError

from hopwatch_collector.witness.answers import MALFORMED, moment, name, number, words
from hopwatch_collector.witness.model import (
    MAYBE,
    Claim,
    Look,
    Place,
    Position,
    Sighting,
    WitnessAway,
    from_offset,
)
from hopwatch_collector.witness.nats_hearing import ADVISORIES, Accounts, Hearing, Holes
from hopwatch_collector.witness.nats_plain import Monitoring
from hopwatch_collector.witness.nats_sources import Origins, Sources

_TIMEOUT_S: Final = 5.0
_OTHERS_AFTER_S: Final = 60.0
"""Seconds after which it is asked again which other servers there are in the cluster."""
_NO_MONITORING: Final = (
    "plain subscribers are not seen: name the server's monitoring endpoint (--watch-nats-monitoring)"
)
_OWN_STREAMS: Final = ("KV_", "OBJ_", "$")
_LONG_AGO: Final = datetime(1970, 1, 2, tzinfo=UTC)
_MAX_LISTED: Final = 100_000
"""Entries of one list that are looked at."""
_MAX_KEPT: Final = 10_000
"""Messages told of per consumer that a work queue kept behind it, or that were removed in front of it."""
_TOKEN: Final = re.compile(r"[^\s.*>\x00-\x1f\x7f]+")
_REFUSED: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')


class NatsWitness:
    """Asks a NATS server through JetStream's API and, where given, its monitoring endpoint."""

    system = "nats"

    def __init__(self, url: str, monitoring_url: str = "", **options: Any) -> None:
        """`options` go to `nats.connect`: user_credentials, tls, and the like."""
        parts = urlsplit(url)
        self.broker = f"{parts.hostname or url}:{parts.port or 4222}"
        self._url = url
        self._monitoring = Monitoring(monitoring_url) if monitoring_url else None
        self._options = options
        self._client: Client | None = None
        self._hearing = Hearing()
        self._refused: dict[str, asyncio.Future[None]] = {}
        self._unlisted: dict[str, str] = {}
        self._off = ""
        self._accounts = Accounts()
        self._sources = Sources()
        self._starts: dict[tuple[str, str], int] = {}
        self._missing: dict[str, frozenset[int]] = {}
        self._created: dict[str, str] = {}
        self._others: tuple[str, ...] = ()
        self._others_due = 0.0
        self._requests = 0

    async def look(self) -> Look:
        """See every consumer of every stream, what was given up since the last look, and plain subscribers."""
        self._requests = 0
        self._unlisted, self._off = {}, ""
        claims: set[Claim] = set()
        positions: dict[Place, Position] = {}
        sightings: list[Sighting] = []
        origins: list[Origins] = []
        try:
            async with asyncio.timeout(2 * _TIMEOUT_S):
                client = await self._connected()
                self._hearing.look()
                listed = await self._listed(client, "STREAM.LIST", "streams", "")
                self._sources.look(listed)
                for stream in listed:
                    with _told_apart(self._unlisted, "", "a stream"):
                        title = _token(stream["config"]["name"])
                        self._anew(title, _text(stream.get("created")))
                        holes, asked = await self._holes(client, title, stream)
                        consumers = await self._listed(client, f"CONSUMER.LIST.{title}", "consumers", title)
                        here = self._consumers(title, stream, consumers, claims, holes)
                        if asked and stream["config"].get("retention") == "workqueue":
                            sightings += _kept(title, here, number(stream["state"]["first_seq"]), holes)
                        elif holes.new:
                            sightings += self._removed(title, here, holes)
                        origins.append(self._sources.of(stream))
                        positions |= here
        except (NatsError, TimeoutError, OSError) as error:
            await self.close()
            raise WitnessAway(f"NATS at {self.broker}: {type(error).__name__}: {error}") from error
        blind = [words(why) for why in dict.fromkeys(self._unlisted.values())]
        positions = self._hearing.looked(positions, complete=not (self._unlisted or self._off))
        heard = (*self._hearing.heard(), *sightings)
        for one in origins:
            positions |= one.places(positions)
            heard = (*heard, *one.sightings(heard))
        if self._hearing.refused:
            blind.append(self._hearing.refused)
        plain = _NO_MONITORING
        if self._monitoring is not None:
            subscribers, plain, requests = await self._monitoring.subscribers()
            claims |= subscribers
            self._requests += requests
        identities = await self._identities(client)
        return Look(
            frozenset(claims),
            positions,
            heard,
            self._requests,
            (*blind, plain) if plain else tuple(blind),
            partial=bool(self._unlisted or (plain and self._monitoring)),
            identities=identities,
        )

    async def hidden(self, missing: Collection[Place]) -> Mapping[Place, str]:
        """Return the consumers of streams that were not listed."""
        everything = self._unlisted.get("", self._off or None)
        told = {place: self._unlisted.get(place.receiver.partition("/")[0], everything) for place in missing}
        return {place: why for place, why in told.items() if why is not None}

    async def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        with suppress(NatsError, TimeoutError, OSError):
            if client is not None:
                await client.close()
        if self._monitoring is not None:
            await self._monitoring.close()

    async def _identities(self, client: Client) -> tuple[str, ...]:
        """The server we are connected to, and those it is in a cluster with, as far as the monitoring endpoint tells."""
        if self._monitoring is not None and time.monotonic() >= self._others_due:
            self._others_due = time.monotonic() + _OTHERS_AFTER_S
            told, requests = await self._monitoring.servers()
            self._others = tuple(sorted(told))
            self._requests += requests
        own = client._server_info.get("server_id")
        known = (own, *self._others) if isinstance(own, str) and own else self._others
        return tuple(dict.fromkeys(name(one) for one in known))

    async def _connected(self) -> Client:
        if self._client is None:
            self._others_due = 0.0
            self._hearing.connected()
            self._missing.clear()
            self._created.clear()
            self._accounts.clear()
            client = await nats.connect(
                self._url,
                name="hopwatch-witness",
                allow_reconnect=False,
                connect_timeout=_TIMEOUT_S,
                error_cb=self._erred,
                closed_cb=self._left,
                **self._options,
            )
            self._client = client
            await client.subscribe(ADVISORIES, cb=self._hearing.advised)
            # A subscription that is not allowed is refused before this is answered.
            await client.flush()
        if not self._client.is_connected:
            raise NatsError("the connection was lost")
        return self._client

    async def _left(self) -> None:
        """Wait for no answer that cannot come any more."""
        for waiting in self._refused.values():
            if not waiting.done():
                waiting.set_result(None)

    async def _erred(self, error: Exception) -> None:
        """Note what was refused or missed; `look` raises all else itself."""
        if isinstance(error, SlowConsumerError):
            self._hearing.missed()
        refused = _REFUSED.search(str(error))
        if refused is None:
            return
        if refused[1] == "subscription" and refused[2] == ADVISORIES.lower():
            self._hearing.refused = (
                f"what was given up or terminated is not heard: its login may not subscribe {ADVISORIES}"
            )
        waiting = self._refused.pop(refused[2], None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def _ask(self, client: Client, what: str, told: Mapping[str, Any]) -> Any:
        """Ask JetStream's API.

        Raises:
            _Untold: it does not answer, refuses, or answers what makes no sense.
            NatsError: the connection was lost.
        """
        self._requests += 1
        subject = f"$JS.API.{what}"
        refused = self._refused[subject.lower()] = asyncio.get_running_loop().create_future()
        asked = asyncio.create_task(client.request(subject, json.dumps(told).encode(), timeout=_TIMEOUT_S))
        try:
            await asyncio.wait((asked, refused), return_when=asyncio.FIRST_COMPLETED)
            if not asked.done() and not client.is_connected:
                raise NatsError("the connection was lost")
            if not asked.done():
                raise _Untold(f"JetStream's {what}: its login may not request {subject}")
            page = json.loads((await asked).data)
            if "error" in page:
                raise _Untold(f"JetStream's {what}: {words(page['error'].get('description', 'refused'))}")
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError) as error:
            why = f"does not answer: off, or not allowed ({type(error).__name__})"
            raise _Untold(f"JetStream's {what} {why}") from error
        except MALFORMED as error:
            raise _Untold(
                f"JetStream's {what} answers what makes no sense ({type(error).__name__})"
            ) from error
        finally:
            self._refused.pop(subject.lower(), None)
            if not asked.done():
                asked.cancel()
        return page

    async def _listed(self, client: Client, what: str, field: str, stream: str) -> list[Any]:
        """Every entry of one of JetStream's lists, page after page; why not all of them goes into `_unlisted`."""
        found: list[Any] = []
        while len(found) < _MAX_LISTED:
            try:
                page = await self._ask(client, what, {"offset": len(found)})
                entries = page.get(field) or []
                if page.get("offset", len(found)) != len(found):
                    raise ValueError(f"offset {words(page['offset'])} where {len(found)} was asked for")
                found += entries
                if not entries or len(found) >= number(page.get("total", 0)):
                    return found
            except _Untold as untold:
                if (
                    not stream
                    and isinstance(untold.__cause__, nats.errors.NoRespondersError)
                    and _off(client)
                ):
                    self._off = f"JetStream is off at {self.broker}, where it was on before"
                else:
                    self._unlisted[stream] = str(untold)
                return found
            except MALFORMED as error:
                self._unlisted[stream] = (
                    f"JetStream's {what} answers what makes no sense ({type(error).__name__})"
                )
                return found
        self._unlisted[stream] = f"JetStream's {what} is looked at up to {_MAX_LISTED} entries"
        return found

    def _consumers(
        self,
        title: str,
        stream: Mapping[str, Any],
        consumers: Sequence[Any],
        claims: set[Claim],
        holes: Holes,
    ) -> dict[Place, Position]:
        """How a stream's consumers stand; what they are owed goes into `claims`."""
        found: dict[Place, Position] = {}
        accounts = self._accounted(title, stream, consumers)
        for consumer in consumers:
            with _told_apart(self._unlisted, title, f"a consumer of {title}"):
                place = Place(name(f"{title}/{name(consumer['name'])}"), title)
                config = consumer["config"]
                position = self._hearing.position(
                    place,
                    name(consumer["created"]),
                    _position(stream, consumer),
                    holes,
                    takes_all=not (config.get("filter_subject") or config.get("filter_subjects")),
                    accounts=accounts,
                )
                claims.update(self._claims(title, stream, consumer))
                found[place] = replace(position, incarnation=_incarnation(stream, consumer))
        return found

    def _accounted(self, title: str, stream: Mapping[str, Any], consumers: Sequence[Any]) -> str:
        """Whether all that a stream let go of was settled by its consumers, see `Accounts`."""
        if stream["config"].get("retention") != "workqueue" or title in self._unlisted:
            return ""
        with suppress(*MALFORMED):
            state = stream["state"]
            missing = number(state["last_seq"]) - number(state["messages"])
            settled = sum(
                number(one["delivered"]["consumer_seq"]) - number(one["num_ack_pending"]) for one in consumers
            )
            names = frozenset(f"{name(one['name'])} {name(one['created'])}" for one in consumers)
            return self._accounts.of(title, names, missing, settled)
        return ""

    def _claims(self, title: str, stream: Mapping[str, Any], consumer: Mapping[str, Any]) -> Iterator[Claim]:
        """What a consumer is owed: its filters, or all subjects that come into its stream; from where it starts."""
        if title.startswith(_OWN_STREAMS):
            return
        config = consumer["config"]
        filters = config.get("filter_subjects") or [config.get("filter_subject") or ""]
        origins = self._sources.of(stream)
        subjects = [subject for subject in filters if subject] or origins.subjects
        since, start = self._start(title, consumer)
        # Elsewhere what comes from other streams has other offsets than here.
        mark = "" if not start else from_offset(start) if origins.same_offsets else MAYBE
        receiver, durable = name(f"{title}/{consumer['name']}"), bool(config.get("durable_name"))
        for subject in subjects:
            yield Claim(f"{mark}{name(subject)}", receiver, durable, since=since)

    def _start(self, title: str, consumer: Mapping[str, Any]) -> tuple[datetime, int]:
        """Since when a consumer is owed messages, and from which offset on; 0: that does not matter."""
        config, created = consumer["config"], moment(consumer["created"])
        match config.get("deliver_policy"):
            case "all":
                return _LONG_AGO, 0
            case "by_start_sequence":
                return _LONG_AGO, number(config.get("opt_start_seq") or 0)
            case "by_start_time":
                return moment(config.get("opt_start_time")), 0
            case "last":
                # Only one that has been handed nothing yet shows where it starts.
                which = f"{title}/{consumer['name']}", str(consumer["created"])
                if not number(consumer["delivered"]["consumer_seq"]):
                    self._starts.setdefault(which, number(consumer["delivered"]["stream_seq"]) + 1)
                start = self._starts.get(which, 0)
                return (_LONG_AGO, start) if start else (created, 0)
        return created, 0

    def _anew(self, title: str, created: str) -> None:
        """Forget what was missing from a stream of this name that is not the one which is there now."""
        if self._created.get(title) != created:
            self._created[title] = created
            self._missing.pop(title, None)

    async def _holes(self, client: Client, title: str, stream: Mapping[str, Any]) -> tuple[Holes, bool]:
        """Which offsets are missing from the middle of a stream, and whether that was asked.

        A work queue lets go of what ended and keeps what was given up, which matters where nobody listened. From others
        messages are removed: one by one, by subject, or because only so many of a subject are kept.
        """
        gaps = number(stream["state"].get("num_deleted") or 0)
        retention = stream["config"].get("retention", "limits")
        before = self._missing.get(title, frozenset())
        unheard = retention == "workqueue" and self._hearing.fresh and title not in self._missing
        grown = retention == "limits" and gaps != len(before)
        if gaps > _MAX_LISTED or not (unheard or grown):
            return Holes(before), False
        try:
            told = await self._ask(client, f"STREAM.INFO.{title}", {"deleted_details": True})
            removed = frozenset(map(number, told["state"].get("deleted") or ()))
        except (_Untold, *MALFORMED):
            return Holes(before), False  # without it what they were is unknown
        self._missing[title] = removed
        return Holes(removed, removed - before), True

    def _removed(self, title: str, places: Collection[Place], holes: Holes) -> Iterator[Sighting]:
        """What was removed is said of every consumer that was not past it."""
        now = datetime.now(UTC)
        for place in places:
            told = ((offset, self._hearing.became(place, offset)) for offset in sorted(holes.new))
            for offset, kind in islice((one for one in told if one[1]), _MAX_KEPT):
                yield Sighting(place.receiver, title, offset, kind, 0, now)


class _Untold(Exception):
    """JetStream does not tell; in words for people."""


@contextmanager
def _told_apart(unlisted: dict[str, str], stream: str, what: str) -> Iterator[None]:
    """One entry that makes no sense is named, and the rest still seen."""
    try:
        yield
    except MALFORMED as error:
        unlisted[stream] = f"what JetStream says of {what} makes no sense ({type(error).__name__}: {error})"


def _kept(title: str, positions: Mapping[Place, Position], first: int, holes: Holes) -> list[Sighting]:
    """What a work queue still holds though its consumers are past it was given up."""
    passed = max((position.done for position in positions.values()), default=0)
    kept = [offset for offset in range(first, min(passed, first + _MAX_KEPT)) if offset not in holes.missing]
    now = datetime.now(UTC)
    return [
        Sighting(place.receiver, title, offset, "max_deliveries", 0, now)
        for place, position in positions.items()
        for offset in kept
        if offset < position.done
    ]


def _off(client: Client) -> bool:
    """Whether the server says that it runs no JetStream, so that there is nothing to be seen of it."""
    return not client._server_info.get("jetstream")


def _token(value: Any) -> str:
    """A stream's name, fit to be part of a subject."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError(f"{words(repr(value))} is no name of a stream")
    return name(value)


def _incarnation(stream: Mapping[str, Any], consumer: Mapping[str, Any]) -> str:
    """When both were created, as the server writes it: of either another may be made with the same name."""
    created = _text(stream.get("created")), _text(consumer.get("created"))
    return " ".join(created) if all(created) else ""


def _text(value: Any) -> str:
    """A time as it is written; nothing where none is told."""
    return name(value) if value else ""


def _position(stream: Mapping[str, Any], consumer: Mapping[str, Any]) -> Position:
    """Never from the floor of acknowledgements alone: it stays behind what was given up on."""
    state = stream["state"]
    acknowledges = consumer["config"].get("ack_policy", "none") != "none"
    delivered = number(consumer["delivered"]["stream_seq"])
    floor = number(consumer["ack_floor"]["stream_seq"])
    return Position(
        first=number(state["first_seq"]),
        end=number(state["last_seq"]) + 1,
        next=delivered + 1,
        done=(floor if acknowledges else delivered) + 1,
        waiting=number(consumer["num_pending"]),
        in_hand=number(consumer["num_ack_pending"]),
        consumers=number(consumer.get("num_waiting") or 0) + int(bool(consumer.get("push_bound"))),
        handed=number(consumer["delivered"]["consumer_seq"]),
        acked=number(consumer["ack_floor"].get("consumer_seq") or 0),
        state="paused" if consumer.get("paused") else "",
    )
