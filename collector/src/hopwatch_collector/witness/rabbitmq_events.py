"""RabbitMQ's event exchange: the moments at which queues and bindings came and went, rather than when a look notices it.

Needs the plugin rabbitmq_event_exchange. Moments are by our clock, as all that a look tells.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from aiormq.abc import DeliveredMessage

from hopwatch_collector.witness.model import NEVER, Claim, Look, Place, WitnessAway
from hopwatch_collector.witness.rabbitmq_answers import is_name, number, table
from hopwatch_collector.witness.rabbitmq_listen import Listener
from hopwatch_collector.witness.rabbitmq_routes import Routes, bare

_MOST: Final = 100_000
"""Things whose beginnings are remembered, and events between two looks; beyond, a look notices them as it does without."""

_AT_FIRST: Final[Mapping[str, Any]] = {
    "waiting": 0, "in_hand": 0, "consumers": 0, "published": 0, "handed": 0, "acked": 0, "oldest_at": NEVER, "state": "empty",
}  # fmt: skip
"""How every queue stands when it has just been declared."""

Thing = tuple[str, ...]
"""A queue's name, or a binding's source, queue and routing key."""


@dataclass(slots=True)
class Moments:
    """When queues and bindings to queues came and went."""

    created: dict[Thing, datetime] = field(default_factory=dict)
    """Of those that are there, as far as it was heard."""
    deleted: dict[Thing, datetime] = field(default_factory=dict)
    """Since the last look; some may be there again."""
    brief: dict[Thing, datetime] = field(default_factory=dict)
    """Of those deleted since the last look, when they had come."""
    declared: dict[str, str] = field(default_factory=dict)
    """Of queues that are there, as far as it was heard, when they were declared, in ms by the broker's clock."""

    def take(self, routing_key: str, headers: object, vhost: str, at: datetime) -> None:
        """Note one event; those that tell of nothing of the kind, or make no sense, are passed over."""
        told = table(headers)
        what, _, happened = routing_key.partition(".")
        thing = _thing(what, told)
        if thing is None or told.get("vhost") != vhost or len(self.created) + len(self.deleted) >= _MOST:
            return
        if happened == "created":
            self.created[thing] = at
            if what == "queue":
                self.declared[thing[0]] = str(number(told.get("timestamp_in_ms"), int(at.timestamp() * 1000)))
        elif happened == "deleted":
            self.deleted[thing] = at
            if what == "queue":
                self.declared.pop(thing[0], None)
            if (since := self.created.pop(thing, None)) is not None:
                self.brief[thing] = since


def _thing(what: str, told: Mapping[str, Any]) -> Thing | None:
    names: Thing = ()
    if what == "queue":
        names = (told.get("name", ""),)
    elif what == "binding" and told.get("destination_kind") == "queue":
        names = tuple(told.get(word, "") for word in ("source_name", "destination_name", "routing_key"))
    return names if names and all(is_name(name) for name in names) else None


class RabbitMQEvents:
    """Listens to the events of one virtual host."""

    def __init__(self, amqp_url: str, vhost: str) -> None:
        """`amqp_url` names the virtual host that has the event exchange, `/` unless the plugin was told otherwise."""
        self._listener = Listener(
            amqp_url, "amq.rabbitmq.event", self._hear, lambda: len(self._moments.deleted) >= _MOST
        )
        self._vhost = vhost
        self._moments = Moments()
        self._unused = Moments()
        """Returned, but the look came to nothing."""

    async def heard(self) -> tuple[Moments, str]:
        """Return what was heard since the last time it was `used`, and what stands in the way of hearing all."""
        try:
            heard = await self._listener.check()
        except WitnessAway as away:
            self._moments, self._unused = Moments(), Moments()
            return Moments(), f"no events: {away}"
        if heard.anew or heard.missed:
            self._moments, self._unused = Moments(), Moments()  # what was created may be gone and there again
        now, before = self._moments, self._unused
        moments = Moments(now.created, before.deleted | now.deleted, before.brief | now.brief, now.declared)
        self._moments, self._unused = Moments(now.created, declared=now.declared), moments
        missed = "events came faster than they could be read; some may be missing"
        return moments, f"RabbitMQ at {self._listener.broker}: {missed}" if heard.missed else ""

    def used(self) -> None:
        """What was returned last has become part of a look."""
        self._unused = Moments()

    async def close(self) -> None:
        """Disconnect."""
        await self._listener.close()

    def _hear(self, message: DeliveredMessage) -> None:
        headers = message.header.properties.headers
        self._moments.take(message.routing_key or "", headers, self._vhost, datetime.now(UTC))


def dated(look: Look, moments: Moments, graph: Routes) -> Look:
    """The look with the moments at which titles began and ended, and with those that did both since the last one."""
    begun = _earliest(moments.created, graph)
    known = {(bare(claim.pattern), claim.receiver) for claim in look.claims}
    ended = _earliest(moments.deleted, graph)
    brief = {pair: since for pair, since in _earliest(moments.brief, graph).items() if pair not in known}
    positions = {
        place: replace(position, incarnation=moments.declared.get(place.receiver, ""))
        for place, position in look.positions.items()
    }
    return replace(
        look,
        claims=frozenset(
            replace(claim, since=begun.get((bare(claim.pattern), claim.receiver))) for claim in look.claims
        ),
        ended={pair: at for pair, at in ended.items() if pair not in known},
        brief=tuple(Claim(pattern, queue, since=since) for (pattern, queue), since in brief.items()),
        positions=positions,
        made={
            place: (moments.created[place.receiver,], replace(position, **_AT_FIRST))
            for place, position in positions.items()
            if (place.receiver,) in moments.created
        },
        gone={Place(thing[0]): at for thing, at in moments.deleted.items() if len(thing) == 1},
    )


def _earliest(moments: Mapping[Thing, datetime], graph: Routes) -> dict[tuple[str, str], datetime]:
    """By pattern and queue: the first of these moments at which something happened to what gives the title."""
    found: dict[tuple[str, str], datetime] = {}
    for thing, at in moments.items():
        if len(thing) == 1:
            pair = (thing[0], thing[0])
        else:
            source, queue, key = thing
            pair = (f"{source}:{graph.pattern(source, key)}", queue)
        found[pair] = min(at, found.get(pair, at))
    return found
