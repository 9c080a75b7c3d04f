"""RabbitMQ: which routing keys lead from which exchange to which queues."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hopwatch_collector.witness.model import DELAYED, EXACTLY, MAYBE, OTHERWISE, Claim
from hopwatch_collector.witness.rabbitmq_answers import table

LONGEST_PATH: Final = 8
"""Exchanges a message may pass through before we stop following bindings from exchange to exchange."""
MOST_PATHS: Final = 10_000
"""Ways from one exchange to queues that are followed; where there are more, some claims are missing."""
_ANY: Final = "#"
_DELAYED_KIND: Final = "x-delayed-message"

Routed = tuple[str, str, bool]
"""Pattern of routing keys, queue, and whether the pattern is all there is to it."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One binding of an exchange, its routing keys as a topic pattern."""

    keys: str
    """What it lets through; where that depends on more than the key: anything."""
    destination: str
    to_queue: bool
    sure: bool = True
    """False: whether a message passes depends on its headers, or on a kind of exchange we do not know."""


@dataclass(slots=True)
class Routes:
    """The bindings of a virtual host, as a graph of exchanges and queues."""

    kinds: dict[str, str]
    alternates: dict[str, str] = field(default_factory=dict)
    """Where an exchange sends what it cannot route."""
    delaying: set[str] = field(default_factory=set)
    """Exchanges that route a message when its delay is over."""
    bindings: dict[str, list[Binding]] = field(default_factory=lambda: defaultdict(list))

    def add(self, told: Mapping[str, Any]) -> None:
        """Take in a binding as the management API tells it."""
        source = told["source"]
        to_queue = told["destination_type"] == "queue"
        kind = self.kinds.get(source)
        if kind is not None:
            keys, sure = _keys(kind, told["routing_key"], table(told.get("arguments")))
            self.bindings[source].append(Binding(keys, told["destination"], to_queue, sure))

    def claims(self, exchange: str, durable: Mapping[str, bool]) -> Iterator[Claim]:
        """Who is owed what is sent to an exchange, of the queues in `durable`."""
        late = DELAYED if self._delays(exchange) else ""
        for keys, queue, sure in self.routed(exchange):
            if queue in durable:
                mark = ("" if sure else MAYBE) + (EXACTLY if self._literal(exchange, keys) else "") + late
                yield Claim(f"{mark}{exchange}:{keys}", queue, durable[queue])
        for keys, queue, sure in self._unrouted(exchange):
            if queue in durable:
                yield Claim(f"{OTHERWISE if sure else MAYBE}{late}{exchange}:{keys}", queue, durable[queue])

    def delayed(self) -> frozenset[str]:
        """Return the queues that get messages when their delay is over, which no counter of theirs shows."""
        return frozenset(
            queue for one in self.delaying for _, queue, _ in (*self.routed(one), *self._unrouted(one))
        )

    def _delays(self, exchange: str) -> bool:
        """Whether what is sent to an exchange may be delayed on its way."""
        ahead, seen = [exchange], {exchange}
        while ahead:
            place = ahead.pop()
            if place in self.delaying:
                return True
            leads_to = [one.destination for one in self.bindings.get(place, ()) if not one.to_queue]
            leads_to.append(self.alternates.get(place, ""))
            ahead += (new := {one for one in leads_to if one} - seen)
            seen |= new
        return False

    def pattern(self, exchange: str, routing_key: str) -> str:
        """The keys that a binding of an exchange lets through, as in its claims."""
        return _keys(self.kinds.get(exchange, ""), routing_key, {})[0]

    def routed(self, exchange: str) -> list[Routed]:
        """The ways that bindings lead from an exchange to queues."""
        found: list[Routed] = []
        seen: set[tuple[str, str, bool]] = set()
        ahead = [(exchange, _ANY, True, 0)]
        while ahead and len(seen) < MOST_PATHS:
            place, so_far, sure, depth = ahead.pop()
            for binding in self.bindings.get(place, ()):
                keys, exact = both(so_far, binding.keys)
                if keys is None:
                    continue
                way = (binding.destination, keys, sure and exact and binding.sure)
                if binding.to_queue:
                    found.append((keys, binding.destination, way[2]))
                elif depth < LONGEST_PATH and way not in seen:
                    seen.add(way)
                    ahead.append((*way, depth + 1))
        return found

    def _unrouted(self, exchange: str) -> Iterator[Routed]:
        """Where that goes which no binding of the exchange lets through.

        A binding to another exchange, or one that goes by headers, takes messages that lead to no queue we could name.
        """
        own = self.bindings.get(exchange, ())
        if any(binding.sure and binding.keys == _ANY for binding in own):
            return
        told = all(binding.to_queue and binding.sure for binding in own)
        seen = {exchange}
        while (exchange := self.alternates.get(exchange, "")) and exchange not in seen:
            seen.add(exchange)
            yield from ((keys, queue, sure and told) for keys, queue, sure in self.routed(exchange))
            told = False  # what the next one gets depends on what this one lets through

    def _literal(self, exchange: str, keys: str) -> bool:
        """Whether what looks like wildcards in the keys is none, as in the bindings of a direct exchange."""
        return self.kinds.get(exchange) == "direct" and keys != _ANY and _has_wildcard(keys)


def routes(exchanges: Iterable[Mapping[str, Any]], bindings: Iterable[Mapping[str, Any]]) -> Routes:
    """The graph that the management API tells."""
    found = Routes({})
    for exchange in exchanges:
        name, arguments = exchange["name"], table(exchange.get("arguments"))
        if not name:
            continue  # the default exchange: every queue under its own name
        kind = exchange["type"]
        found.kinds[name] = str(arguments.get("x-delayed-type", kind)) if kind == _DELAYED_KIND else kind
        if kind == _DELAYED_KIND:
            found.delaying.add(name)
        if isinstance(arguments.get("alternate-exchange"), str):
            found.alternates[name] = arguments["alternate-exchange"]
    for binding in bindings:
        found.add(binding)
    return found


def bare(pattern: str) -> str:
    """A claim's pattern without the marks before it."""
    return pattern.rpartition("\x1f")[2]


def _keys(kind: str, routing_key: str, arguments: Mapping[str, Any]) -> tuple[str, bool]:
    if kind in ("direct", "topic"):
        return routing_key, True
    if kind == "fanout":
        return _ANY, True
    # Headers that no message needs to have let everything through; any others, nobody here can see.
    wanted = [name for name in arguments if not name.startswith("x-")]
    return _ANY, kind == "headers" and not wanted and arguments.get("x-match", "all") == "all"


def both(first: str, second: str) -> tuple[str | None, bool]:
    """The keys that pass two patterns, and whether the pattern says exactly that; None: none do."""
    if second in (first, _ANY):
        return first, True
    if first == _ANY:
        return second, True
    if not _has_wildcard(first):
        return (first, True) if matches(second, first) else (None, True)
    if not _has_wildcard(second):
        return (second, True) if matches(first, second) else (None, True)
    return first, False


def matches(pattern: str, key: str) -> bool:
    """Whether a topic pattern lets a routing key through: `*` is one word, `#` any number of them."""
    words = key.split(".") if key else []
    reached = {0}
    for part in pattern.split(".") if pattern else ():
        if part == _ANY:
            reached = set(range(min(reached), len(words) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(words) and part in ("*", words[at])}
        if not reached:
            return False
    return len(words) in reached


def _has_wildcard(keys: str) -> bool:
    return any(word in ("*", _ANY) for word in keys.split("."))
