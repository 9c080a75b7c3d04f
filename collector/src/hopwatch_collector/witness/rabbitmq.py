"""RabbitMQ: queues with their counters and limits, and what they are bound to, through the management API.

Needs a user with the tag `monitoring` (read only); without it, `management` and read permission on the vhost show less.
"""

import time
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from hopwatch_collector.witness.model import NEVER, UNTOLD, Claim, Look, Place, Position, WitnessAway
from hopwatch_collector.witness.rabbitmq_routes import Routes, matches, routes

_TIMEOUT_S: Final = 10.0
_REFUSED: Final = (401, 403)
_QUEUE_COLUMNS: Final = (
    "name,node,exclusive,auto_delete,messages_ready,messages_unacknowledged,consumers,"
    "message_stats.publish,message_stats.deliver_get,message_stats.ack,message_stats.deliver_no_ack,"
    "message_stats.get_no_ack,arguments,effective_policy_definition,head_message_timestamp"
)
_EXCHANGE_COLUMNS: Final = "name,type,arguments,policy"
_BINDING_COLUMNS: Final = "source,destination,destination_type,routing_key,arguments"
_JITTER_S: Final = 5.0
"""A node's start, as told at several looks, is the same one when no further apart than this."""


class RabbitMQWitness:
    """Asks a RabbitMQ node's management API about one virtual host."""

    system = "rabbitmq"

    def __init__(self, management_url: str, vhost: str = "/") -> None:
        """`management_url`: `http://user:password@host:15672`."""
        parts = urlsplit(management_url)
        self.broker = f"{parts.hostname}:{parts.port or 15672}"
        self._vhost = quote(vhost, safe="")
        self._auth = (parts.username or "guest", parts.password or "guest")
        self._base = f"{parts.scheme}://{self.broker}{parts.path.rstrip('/')}/api"
        self._http: httpx.AsyncClient | None = None
        self._requests = 0
        self._counting = _Counting()

    async def look(self) -> Look:
        """See all queues and bindings."""
        try:
            queues = await self._get("queues", columns=_QUEUE_COLUMNS)
            exchanges = await self._get("exchanges", columns=_EXCHANGE_COLUMNS)
            bindings = await self._get("bindings", columns=_BINDING_COLUMNS)
            if any(exchange.get("policy") for exchange in exchanges):
                exchanges = _with_policies(exchanges, await self._get("policies"))
            nodes = await self._nodes()
        except httpx.HTTPStatusError as error:
            raise WitnessAway(f"RabbitMQ at {self.broker}: {_refusal(error.response)}") from error
        except (httpx.HTTPError, ValueError) as error:
            raise WitnessAway(f"RabbitMQ at {self.broker}: {type(error).__name__}: {error}") from error
        requests, self._requests = self._requests, 0
        graph = routes(exchanges, bindings)
        names = {queue["name"] for queue in queues}
        began = self._counting.began(queues, nodes, time.time())
        return Look(
            frozenset(_claims(queues, graph)),
            {Place(queue["name"]): _position(queue, began[queue["name"]], graph, names) for queue in queues},
            requests=requests,
        )

    async def hidden(self, missing: Collection[Place]) -> Mapping[Place, str]:
        """Return nothing: who may see a virtual host at all sees all of its queues."""
        return {}

    async def close(self) -> None:
        """Disconnect."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def _get(self, what: str, **params: str) -> list[dict[str, Any]]:
        return await self._ask(f"{what}/{self._vhost}", params)

    async def _nodes(self) -> list[dict[str, Any]]:
        """The nodes and how long they have been up; nothing where that is only for users with more rights."""
        try:
            return await self._ask("nodes", {"columns": "name,uptime"})
        except httpx.HTTPStatusError as error:
            if error.response.status_code in _REFUSED:
                return []
            raise

    async def _ask(self, path: str, params: dict[str, str]) -> list[dict[str, Any]]:
        if self._http is None:
            self._http = httpx.AsyncClient(auth=self._auth, timeout=_TIMEOUT_S)
        self._requests += 1
        answer = await self._http.get(f"{self._base}/{path}", params=params)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found


@dataclass(slots=True)
class _Counting:
    """Since when each queue's counters count: a node that starts, and a queue declared anew, begin at nought."""

    starts: dict[str, float] = field(default_factory=dict)
    queues: dict[str, tuple[float, float, tuple[int, ...]]] = field(default_factory=dict)
    """Of each queue: the start of its node, since when it counts, and how far it had counted."""
    looked: bool = False

    def began(
        self, queues: Iterable[Mapping[str, Any]], nodes: Iterable[Mapping[str, Any]], now: float
    ) -> dict[str, int]:
        """Since when each of the queues counts, in seconds since 1970, 0 where nobody tells."""
        for node in nodes:
            start = now - node.get("uptime", 0) / 1000
            if abs(start - self.starts.get(node["name"], 0.0)) > _JITTER_S:
                self.starts[node["name"]] = start
        before, self.queues = self.queues, {}
        for queue in queues:
            start, counted = self.starts.get(queue.get("node", ""), 0.0), _counters(queue)
            known = before.get(queue["name"])
            if known is None:
                since = now if self.looked else start
            elif start != known[0]:
                since = start
            else:
                anew = any(now < then for now, then in zip(counted, known[2], strict=True))
                since = now if anew else known[1]
            self.queues[queue["name"]] = (start, since, counted)
        self.looked = True
        return {name: int(since) for name, (_, since, _) in self.queues.items()}


def _refusal(answer: httpx.Response) -> str:
    if answer.status_code in _REFUSED:
        return "login refused: the witness needs a user with the tag `monitoring`"
    return f"the management API answered {answer.status_code}"


def _with_policies(
    exchanges: Iterable[Mapping[str, Any]], policies: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Exchanges with what their policies add to their arguments, as if it had been given when they were declared."""
    definitions = {policy["name"]: policy.get("definition") or {} for policy in policies}
    return [
        {
            **exchange,
            "arguments": {**definitions.get(exchange.get("policy"), {}), **(exchange.get("arguments") or {})},
        }
        for exchange in exchanges
    ]


def _counters(queue: Mapping[str, Any]) -> tuple[int, int, int]:
    """How many messages were routed to a queue, handed out and settled, since it counts."""
    stats = queue.get("message_stats") or {}
    # What needs no acknowledgement is settled by being handed out.
    settled = stats.get("ack", 0) + stats.get("deliver_no_ack", 0) + stats.get("get_no_ack", 0)
    return stats.get("publish", 0), stats.get("deliver_get", 0), settled


def _position(queue: Mapping[str, Any], began: int, graph: Routes, queues: Container[str]) -> Position:
    limits = {**(queue.get("effective_policy_definition") or {}), **(queue.get("arguments") or {})}
    published, handed, acked = _counters(queue)
    head = queue.get("head_message_timestamp")
    return Position(
        first=began,
        waiting=queue.get("messages_ready", UNTOLD),
        in_hand=queue.get("messages_unacknowledged", UNTOLD),
        consumers=queue.get("consumers", UNTOLD),
        oldest_at=datetime.fromtimestamp(head, UTC) if isinstance(head, int) else NEVER,
        published=published,
        handed=handed,
        acked=acked,
        ttl_ms=_limit(limits, "message-ttl"),
        max_length=max(_limit(limits, "max-length"), _limit(limits, "max-length-bytes")),
        dead_letters=_dead_letters(queue["name"], limits, graph, queues),
        state="" if queue.get("consumers") else "empty",
    )


def _dead_letters(name: str, limits: Mapping[str, Any], graph: Routes, queues: Container[str]) -> bool:
    """Whether what a queue drops may come to another queue; an exchange that is not there, or not bound, drops it too."""
    exchange = limits.get("x-dead-letter-exchange", limits.get("dead-letter-exchange"))
    if not isinstance(exchange, str):
        return False
    key = limits.get("x-dead-letter-routing-key", limits.get("dead-letter-routing-key"))
    if not exchange:  # leads to the queue of that name; without a name, back to where it came from
        return key in queues if isinstance(key, str) else bool(name)
    ways = [*graph.routed(exchange), *graph.routed(graph.alternates.get(exchange, ""))]
    return any(not isinstance(key, str) or not sure or matches(keys, key) for keys, _, sure in ways)


def _limit(limits: Mapping[str, Any], name: str) -> int:
    """A limit set by argument (`x-…`) or policy; the smaller counts."""
    told = [limits[key] for key in (f"x-{name}", name) if isinstance(limits.get(key), int)]
    return min(told, default=UNTOLD)


def _claims(queues: Iterable[Mapping[str, Any]], graph: Routes) -> Iterator[Claim]:
    """Patterns that lead to each queue: its own name, and every path of bindings from an exchange to it."""
    durable = {queue["name"]: not (queue.get("exclusive") or queue.get("auto_delete")) for queue in queues}
    for name, kept in durable.items():
        yield Claim(name, name, kept)
    for exchange in graph.kinds:
        yield from graph.claims(exchange, durable)
