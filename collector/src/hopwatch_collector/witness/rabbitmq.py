"""RabbitMQ: queues with their counters and limits, and what they are bound to, through the management API.

Needs a user with the tag `monitoring` and any permission on the virtual host: it then sees all queues there, whichever it
may read from. With the tag `management` the nodes cannot be seen, and so not when they started.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Final

from hopwatch_collector.witness.model import UNTOLD, Claim, Look, Place, Position
from hopwatch_collector.witness.rabbitmq_answers import moment, number, table
from hopwatch_collector.witness.rabbitmq_events import RabbitMQEvents, dated
from hopwatch_collector.witness.rabbitmq_management import LoginRefused, Management
from hopwatch_collector.witness.rabbitmq_routes import Routed, Routes, matches, routes

_QUEUE_COLUMNS: Final = (
    "name,node,type,exclusive,auto_delete,messages_ready,messages_unacknowledged,consumers,"
    "message_stats.publish,message_stats.deliver_get,message_stats.ack,message_stats.deliver_no_ack,"
    "message_stats.get_no_ack,arguments,effective_policy_definition,head_message_timestamp"
)
_EXCHANGE_COLUMNS: Final = "name,type,arguments,policy"
_BINDING_WORDS: Final = ("source", "destination", "destination_type", "routing_key")
_BINDING_COLUMNS: Final = ",".join((*_BINDING_WORDS, "arguments"))


class RabbitMQWitness:
    """Asks a RabbitMQ node's management API about one virtual host."""

    system = "rabbitmq"

    def __init__(self, management_url: str, vhost: str = "/", events: RabbitMQEvents | None = None) -> None:
        """`management_url`: `http://user:password@host:15672`; `events`: of the same virtual host."""
        self._management = Management(management_url, vhost)
        self.broker = self._management.broker
        self._counting = _Counting()
        self._events = events

    async def look(self) -> Look:
        """See all queues and bindings."""
        ask = self._management
        ask.requests, ask.left_out = 0, {}
        # Before the lists: of what they show, all is heard, or it counts from this look.
        moments, deaf = await self._events.heard() if self._events else (None, "")
        told = await ask.here("queues", ("name",), columns=_QUEUE_COLUMNS)
        exchanges = await ask.here("exchanges", ("name", "type"), columns=_EXCHANGE_COLUMNS)
        bindings = await ask.here("bindings", _BINDING_WORDS, columns=_BINDING_COLUMNS)
        if any(exchange.get("policy") for exchange in exchanges):
            exchanges = _with_policies(exchanges, await ask.here("policies", ("name",)))
        nodes = await self._nodes()
        identity = await ask.identity()
        queues = [queue for queue in told if queue["name"]]
        graph = routes(exchanges, bindings)
        created = (
            {thing[0]: at for thing, at in moments.created.items() if len(thing) == 1} if moments else {}
        )
        began = self._counting.began(queues, nodes, time.time(), created)
        odd = self._left_out()
        look = Look(
            frozenset(_claims(queues, graph)),
            _positions(queues, began, graph),
            requests=ask.requests,
            blind=tuple(filter(None, [*odd, deaf])),
            partial=bool(odd),
            identities=(identity,) if identity else (),
        )
        if self._events is None or moments is None:
            return look
        self._events.used()
        return dated(look, moments, graph)

    def _left_out(self) -> list[str]:
        """What the last look had to leave out, in words."""
        return [
            f"RabbitMQ at {self.broker}: {count} of the {what} make no sense and were left out"
            for what, count in self._management.left_out.items()
        ]

    async def _nodes(self) -> list[Mapping[str, Any]]:
        """The nodes and how long they have been up; nothing where that is only for users with more rights."""
        try:
            return await self._management.all("nodes", ("name",), columns="name,uptime")
        except LoginRefused:
            return []

    async def hidden(self, missing: Collection[Place]) -> Mapping[Place, str]:
        """Return all of them where lists were not whole: who may see a virtual host at all else sees all of its queues."""
        odd = "; ".join(self._left_out())
        return dict.fromkeys(missing, odd) if odd else {}

    async def close(self) -> None:
        """Disconnect."""
        await self._management.close()
        if self._events:
            await self._events.close()


@dataclass(slots=True)
class _Counting:
    """Since when each queue's counters count: a node that starts, and a queue declared anew, begin at nought."""

    starts: dict[str, float] = field(default_factory=dict)
    uptimes: dict[str, float] = field(default_factory=dict)
    """As the nodes last told them: up to one of their statistics' intervals old, which is theirs to choose."""
    queues: dict[str, tuple[float, float, tuple[int, ...]]] = field(default_factory=dict)
    """Of each queue: the start of its node, since when it counts, and how far it had counted."""
    looked: bool = False

    def began(
        self,
        queues: Iterable[Mapping[str, Any]],
        nodes: Iterable[Mapping[str, Any]],
        now: float,
        created: Mapping[str, datetime],
    ) -> dict[str, int]:
        """Since when each of the queues counts, in seconds since 1970, 0 where nobody tells.

        `created`: when queues were declared, of those of which it was heard. Counters alone may not show it.
        """
        for node in nodes:
            name, uptime = node["name"], number(node.get("uptime"), 0)
            if name not in self.starts or uptime < self.uptimes[name]:
                self.starts[name] = now - uptime / 1000
            self.uptimes[name] = uptime
        before, self.queues = self.queues, {}
        for queue in queues:
            start, counted = self.starts.get(str(queue.get("node")), 0.0), _counters(queue)
            known = before.get(queue["name"])
            declared = created[queue["name"]].timestamp() if queue["name"] in created else 0.0
            if known is None and not declared:
                since = now if self.looked else start
            elif known is None or start != known[0]:
                since = max(start, declared)
            elif declared > known[1]:
                since = declared
            else:
                anew = any(now < then for now, then in zip(counted, known[2], strict=True))
                since = now if anew else known[1]
            self.queues[queue["name"]] = (start, since, counted)
        self.looked = True
        return {name: int(since) for name, (_, since, _) in self.queues.items()}


def _with_policies(
    exchanges: Iterable[Mapping[str, Any]], policies: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Exchanges with what their policies add to their arguments, as if it had been given when they were declared."""
    definitions = {policy["name"]: table(policy.get("definition")) for policy in policies}
    return [
        {
            **exchange,
            "arguments": {
                **definitions.get(str(exchange.get("policy")), {}),
                **table(exchange.get("arguments")),
            },
        }
        for exchange in exchanges
    ]


def _counters(queue: Mapping[str, Any]) -> tuple[int, int, int]:
    """How many messages were routed to a queue, handed out and settled, since it counts."""
    stats = table(queue.get("message_stats"))
    # What needs no acknowledgement is settled by being handed out.
    settled = sum(number(stats.get(name), 0) for name in ("ack", "deliver_no_ack", "get_no_ack"))
    return number(stats.get("publish"), 0), number(stats.get("deliver_get"), 0), settled


def _positions(
    queues: Iterable[Mapping[str, Any]], began: Mapping[str, int], graph: Routes
) -> dict[Place, Position]:
    """How every queue stands."""
    graves = _graves(queues, graph)
    fed = {name for leads_to in graves.values() for name in leads_to} | graph.delayed()
    return {
        Place(name := queue["name"]): _position(queue, began[name], bool(graves[name]), name in fed)
        for queue in queues
    }


def _position(queue: Mapping[str, Any], began: int, dead_letters: bool, fed: bool) -> Position:
    limits = _limits(queue)
    published, handed, acked = _counters(queue)
    consumers = number(queue.get("consumers"))
    return Position(
        first=began,
        # Not told while the queue's node is down or has not counted yet.
        waiting=number(queue.get("messages_ready")),
        in_hand=number(queue.get("messages_unacknowledged")),
        consumers=consumers,
        oldest_at=moment(queue.get("head_message_timestamp")),
        published=published,
        handed=handed,
        acked=acked,
        ttl_ms=_limit(limits, "message-ttl"),
        max_length=max(_limit(limits, "max-length"), _limit(limits, "max-length-bytes")),
        dead_letters=dead_letters,
        state="" if consumers else "empty",
        uncounted=fed,
        kind=_kind(queue),
    )


def _kind(queue: Mapping[str, Any]) -> str:
    """What a queue is where that is more than a queue."""
    arguments = table(queue.get("arguments"))
    if "stream" in (queue.get("type"), arguments.get("x-queue-type")):
        return "stream"
    return "unordered" if number(arguments.get("x-max-priority"), 0) > 0 else ""


def _limits(queue: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**table(queue.get("effective_policy_definition")), **table(queue.get("arguments"))}


def _graves(queues: Iterable[Mapping[str, Any]], graph: Routes) -> dict[str, frozenset[str]]:
    """Of each queue, to which queues the messages it drops may come; an exchange that is not there drops them too."""
    names = frozenset(queue["name"] for queue in queues)

    @cache
    def ways(exchange: str) -> list[Routed]:
        return [*graph.routed(exchange), *graph.routed(graph.alternates.get(exchange, ""))]

    @cache
    def led_to(exchange: str, key: str | None) -> frozenset[str]:
        found = {
            queue for keys, queue, sure in ways(exchange) if key is None or not sure or matches(keys, key)
        }
        return names & found

    def grave(queue: Mapping[str, Any]) -> frozenset[str]:
        limits, name = _limits(queue), queue["name"]
        exchange = limits.get("x-dead-letter-exchange", limits.get("dead-letter-exchange"))
        told = limits.get("x-dead-letter-routing-key", limits.get("dead-letter-routing-key"))
        key = told if isinstance(told, str) else None
        if not isinstance(exchange, str):
            return frozenset()
        if not exchange:  # leads to the queue of that name; without a name, back to where it came from
            return names & {name if key is None else key}
        return led_to(exchange, key)

    return {queue["name"]: grave(queue) for queue in queues}


def _limit(limits: Mapping[str, Any], name: str) -> int:
    """A limit set by argument (`x-…`) or policy; the smaller counts."""
    told = [number(limits.get(key)) for key in (f"x-{name}", name)]
    return min((limit for limit in told if limit >= 0), default=UNTOLD)


def _claims(queues: Iterable[Mapping[str, Any]], graph: Routes) -> Iterator[Claim]:
    """Patterns that lead to each queue: its own name, and every path of bindings from an exchange to it."""
    durable = {queue["name"]: not (queue.get("exclusive") or queue.get("auto_delete")) for queue in queues}
    for name, kept in durable.items():
        yield Claim(name, name, kept)
    for exchange in graph.kinds:
        yield from graph.claims(exchange, durable)
