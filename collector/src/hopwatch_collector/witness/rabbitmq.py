"""RabbitMQ: queues with their counters and limits, and what they are bound to, through the management API.

Needs a user with the tag `monitoring` (read only); without it, `management` and read permission on the vhost show less.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from hopwatch_collector.witness.model import NEVER, UNTOLD, Claim, Look, Place, Position, WitnessAway

_TIMEOUT_S: Final = 10.0
_QUEUE_COLUMNS: Final = (
    "name,vhost,durable,exclusive,auto_delete,messages_ready,messages_unacknowledged,consumers,"
    "message_stats,arguments,effective_policy_definition,head_message_timestamp"
)
_LONGEST_PATH: Final = 8
"""Exchanges a message may pass through before we stop following bindings from exchange to exchange."""
_ANY: Final = "#"


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

    async def look(self) -> Look:
        """See all queues and bindings."""
        try:
            queues = await self._get("queues", columns=_QUEUE_COLUMNS)
            exchanges = await self._get("exchanges", columns="name,type,arguments")
            bindings = await self._get("bindings")
        except httpx.HTTPStatusError as error:
            raise WitnessAway(f"RabbitMQ at {self.broker}: {_refusal(error.response)}") from error
        except (httpx.HTTPError, ValueError) as error:
            raise WitnessAway(f"RabbitMQ at {self.broker}: {type(error).__name__}: {error}") from error
        return Look(
            frozenset(_claims(queues, exchanges, bindings)),
            {Place(queue["name"]): _position(queue) for queue in queues},
            requests=3,
        )

    async def close(self) -> None:
        """Disconnect."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def _get(self, what: str, **params: str) -> list[dict[str, Any]]:
        if self._http is None:
            self._http = httpx.AsyncClient(auth=self._auth, timeout=_TIMEOUT_S)
        answer = await self._http.get(f"{self._base}/{what}/{self._vhost}", params=params)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found


def _refusal(answer: httpx.Response) -> str:
    if answer.status_code in (401, 403):
        return "login refused: the witness needs a user with the tag `monitoring`"
    return f"the management API answered {answer.status_code}"


def _position(queue: Mapping[str, Any]) -> Position:
    limits = {**(queue.get("effective_policy_definition") or {}), **(queue.get("arguments") or {})}
    stats = queue.get("message_stats") or {}
    head = queue.get("head_message_timestamp")
    return Position(
        waiting=queue.get("messages_ready", UNTOLD),
        in_hand=queue.get("messages_unacknowledged", UNTOLD),
        consumers=queue.get("consumers", UNTOLD),
        oldest_at=datetime.fromtimestamp(head, UTC) if isinstance(head, int) else NEVER,
        published=stats.get("publish", 0),
        handed=stats.get("deliver_get", 0),
        # What needs no acknowledgement is settled by being handed out.
        acked=stats.get("ack", 0) + stats.get("deliver_no_ack", 0) + stats.get("get_no_ack", 0),
        ttl_ms=_limit(limits, "message-ttl"),
        max_length=max(_limit(limits, "max-length"), _limit(limits, "max-length-bytes")),
        dead_letters=bool(
            limits.get("x-dead-letter-exchange") is not None or "dead-letter-exchange" in limits
        ),
        state="" if queue.get("consumers") else "empty",
    )


def _limit(limits: Mapping[str, Any], name: str) -> int:
    """A limit set by argument (`x-…`) or policy; the smaller counts."""
    told = [limits[key] for key in (f"x-{name}", name) if isinstance(limits.get(key), int)]
    return min(told, default=UNTOLD)


def _claims(
    queues: Iterable[Mapping[str, Any]],
    exchanges: Iterable[Mapping[str, Any]],
    bindings: Iterable[Mapping[str, Any]],
) -> Iterator[Claim]:
    """Patterns that lead to each queue: its own name, and every path of bindings from an exchange to it."""
    durable = {queue["name"]: not (queue.get("exclusive") or queue.get("auto_delete")) for queue in queues}
    for name, kept in durable.items():
        yield Claim(name, name, kept)
    routes = _Routes(exchanges, bindings)
    for exchange in routes.kinds:
        for pattern, queue in routes.leading_from(exchange):
            if queue in durable:
                yield Claim(f"{exchange}:{pattern}", queue, durable[queue])


class _Routes:
    """The bindings of a virtual host, as a graph of exchanges and queues."""

    def __init__(self, exchanges: Iterable[Mapping[str, Any]], bindings: Iterable[Mapping[str, Any]]) -> None:
        self.kinds = {exchange["name"]: exchange["type"] for exchange in exchanges if exchange["name"]}
        self._from: dict[str, list[tuple[str, bool, str]]] = defaultdict(list)
        for binding in bindings:
            source = binding["source"]
            pattern = self._pattern(source, binding["routing_key"])
            if pattern is not None:
                to_queue = binding["destination_type"] == "queue"
                self._from[source].append((pattern, to_queue, binding["destination"]))

    def leading_from(self, exchange: str, depth: int = 0) -> Iterator[tuple[str, str]]:
        """The patterns of routing keys that lead from an exchange to queues."""
        for pattern, to_queue, destination in self._from.get(exchange, ()):
            if to_queue:
                yield pattern, destination
            elif depth < _LONGEST_PATH:
                for further, queue in self.leading_from(destination, depth + 1):
                    both = _both(pattern, further)
                    if both is not None:
                        yield both, queue

    def _pattern(self, exchange: str, routing_key: str) -> str | None:
        """A binding as a pattern; None for the default exchange, and for headers, which no pattern tells."""
        kind = self.kinds.get(exchange)
        if kind == "fanout":
            return _ANY
        return routing_key if kind in ("direct", "topic") else None


def _both(first: str, second: str) -> str | None:
    """The keys that match two patterns: one of the two, where it is the narrower one; None where that cannot be told."""
    if first == second or second == _ANY:
        return first
    if first == _ANY or _matches(first, second):
        return second
    return first if _matches(second, first) else None


def _matches(pattern: str, key: str) -> bool:
    words = (
        r"(\.[^.]*)*" if word == "#" else r"\.[^.]+" if word == "*" else rf"\.{re.escape(word)}"
        for word in pattern.split(".")
    )
    return re.fullmatch("".join(words), f".{key}") is not None and "*" not in key and "#" not in key
