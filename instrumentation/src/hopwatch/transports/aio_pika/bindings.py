"""Which queues are owed what: declared queues and their bindings, as far as this process sees them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from aio_pika import Exchange, Queue
from aio_pika.abc import AbstractExchange, ExchangeType
from aio_pika.abc import get_exchange_name as name_of

from hopwatch.recorder import Holding, Recorder
from hopwatch.wrapping import guarded

_PREDECLARED: Final = {
    "amq.direct": "direct",
    "amq.topic": "topic",
    "amq.fanout": "fanout",
    "amq.headers": "headers",
    "amq.match": "headers",
}
_ALL: Final = "#"


@dataclass(frozen=True, slots=True)
class _Route:
    """A binding: the exchange it comes from, and the routing keys it lets through; None: cannot be told."""

    exchange: str
    keys: str | None


@dataclass(slots=True)
class _Owed:
    """A queue: how long it lasts, what it is bound to, and what has been reported of it."""

    durable: bool
    routes: set[_Route] = field(default_factory=set)
    reported: set[str] = field(default_factory=set)


class Bindings:
    """Reports which destination patterns each queue of a broker is entitled to, through exchanges bound to others too.

    `member` is as whom the broker lists the connections that tell of it.
    """

    def __init__(self, recorder: Recorder, broker: str, member: str) -> None:
        self._recorder = recorder
        self._broker = broker
        self._member = member
        self._queues: dict[str, _Owed] = {}
        self._exchanges: dict[str, set[_Route]] = {}
        self._kinds: dict[str, str] = dict(_PREDECLARED)

    def declared(self, queue: Queue) -> None:
        """A queue is there: the default exchange is bound to it under its own name."""
        self._refresh(queue.name, self._owed(queue))

    def exchange_declared(self, exchange: Exchange) -> None:
        """An exchange is there; of one only looked up, the kind is not known."""
        if not exchange.passive:
            self._kinds[exchange.name] = exchange._type

    def bound(self, queue: Queue, exchange: AbstractExchange | str, routing_key: str) -> None:
        """A queue is bound."""
        owed = self._owed(queue)
        owed.routes.add(self._route(exchange, routing_key))
        self._refresh(queue.name, owed)

    def unbound(self, queue: Queue, exchange: AbstractExchange | str, routing_key: str) -> None:
        """A binding is gone."""
        owed = self._owed(queue)
        owed.routes.discard(self._route(exchange, routing_key))
        self._refresh(queue.name, owed)

    def exchange_bound(self, exchange: Exchange, source: AbstractExchange | str, routing_key: str) -> None:
        """An exchange gets what another lets through."""
        self._exchanges.setdefault(exchange.name, set()).add(self._route(source, routing_key))
        self._refresh_all()

    def exchange_unbound(self, exchange: Exchange, source: AbstractExchange | str, routing_key: str) -> None:
        """It no longer does."""
        self._exchanges.get(exchange.name, set()).discard(self._route(source, routing_key))
        self._refresh_all()

    def exchange_deleted(self, name: str) -> None:
        """An exchange is gone, with all bindings from and to it."""
        self._exchanges.pop(name, None)
        for routes in (*self._exchanges.values(), *(owed.routes for owed in self._queues.values())):
            routes.difference_update([route for route in routes if route.exchange == name])
        self._refresh_all()

    def deleted(self, queue_name: str) -> None:
        """A queue is gone, or was ours alone and went with its channel."""
        owed = self._queues.pop(queue_name, None)
        for pattern in owed.reported if owed is not None else ():
            self._recorder.unsubscribed(pattern, receiver=queue_name, broker=self._broker)

    def closed(self, queue: Any, _error: BaseException | None = None) -> None:
        """A queue of its connection alone goes with it; a restored one is declared again."""
        if queue is not None:
            guarded(self.deleted)(queue.name)

    def _owed(self, queue: Queue) -> _Owed:
        return self._queues.setdefault(queue.name, _Owed(outlives_consumers(queue)))

    def _route(self, exchange: AbstractExchange | str, routing_key: str) -> _Route:
        if isinstance(exchange, Exchange):
            self.exchange_declared(exchange)
        name = name_of(exchange)
        kind = self._kinds.get(name, ExchangeType.DIRECT.value)
        if kind == ExchangeType.HEADERS.value:
            return _Route(name, None)
        return _Route(name, _ALL if kind == ExchangeType.FANOUT.value else routing_key)

    def _refresh_all(self) -> None:
        for name, owed in list(self._queues.items()):
            self._refresh(name, owed)

    def _refresh(self, name: str, owed: _Owed) -> None:
        patterns = [name, *(f"{route.exchange}:{route.keys}" for route in self._reaching(owed.routes))]
        for pattern in dict.fromkeys(patterns):
            if pattern not in owed.reported:
                self._recorder.holds(Holding(pattern, name, owed.durable, self._broker, self._member))
        for pattern in owed.reported.difference(patterns):
            self._recorder.unsubscribed(pattern, receiver=name, broker=self._broker)
        owed.reported = set(patterns)

    def _reaching(self, routes: set[_Route]) -> Iterator[_Route]:
        """Yield every route by which a message may come, directly or through exchanges bound to others."""
        seen: set[_Route] = set()
        ahead = [route for route in routes if route.keys is not None]
        while ahead:
            route = ahead.pop()
            if route in seen:
                continue
            seen.add(route)
            yield route
            for source in self._exchanges.get(route.exchange, ()):
                keys = both(route.keys, source.keys)
                if keys is not None:
                    ahead.append(_Route(source.exchange, keys))


def both(one: str | None, other: str | None) -> str | None:
    """Return the routing keys that pass both of two bindings, None if there are none or no pattern tells them."""
    if one is None or other is None:
        return None
    if other in (one, _ALL):
        return one
    if one == _ALL:
        return other
    if not _has_wildcard(one):
        return one if matches(other.split("."), one.split(".")) else None
    if not _has_wildcard(other):
        return other if matches(one.split("."), other.split(".")) else None
    return None


def matches(pattern: list[str], words: list[str]) -> bool:
    """Whether a topic pattern lets a routing key through: `*` is one word, `#` any number of them."""
    if not pattern:
        return not words
    if pattern[0] == _ALL:
        return matches(pattern[1:], words) or (bool(words) and matches(pattern, words[1:]))
    return bool(words) and pattern[0] in ("*", words[0]) and matches(pattern[1:], words[1:])


def outlives_consumers(queue: Queue) -> bool:
    """Whether a queue keeps messages while nobody is connected; of one only looked up, we do not know."""
    return not (queue.exclusive or queue.auto_delete or queue.passive)


def _has_wildcard(keys: str) -> bool:
    return any(word in ("*", _ALL) for word in keys.split("."))
