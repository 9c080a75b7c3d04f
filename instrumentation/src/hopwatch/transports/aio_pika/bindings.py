"""Which queues are owed what: declared queues and their bindings, as far as this process sees them."""

from typing import Final

from aio_pika import Queue
from aio_pika.abc import AbstractExchange, ExchangeType
from aio_pika.abc import get_exchange_name as name_of

from hopwatch.recorder import Recorder

_PREDECLARED: Final = {"amq.fanout": "fanout", "amq.headers": "headers", "amq.match": "headers"}


class Bindings:
    """Reports which destination patterns each queue is entitled to."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._patterns: dict[str, set[str]] = {}

    def declared(self, queue: Queue) -> None:
        """A queue is there: the default exchange is bound to it under its own name."""
        self._entitle(queue, queue.name)

    def bound(self, queue: Queue, exchange: AbstractExchange | str, routing_key: str) -> None:
        """A queue is bound; bindings by headers cannot be told as patterns."""
        pattern = _pattern(exchange, routing_key)
        if pattern is not None:
            self._entitle(queue, pattern)

    def unbound(self, queue: Queue, exchange: AbstractExchange | str, routing_key: str) -> None:
        """A binding is gone."""
        pattern = _pattern(exchange, routing_key)
        if pattern is not None and pattern in self._patterns.get(queue.name, ()):
            self._patterns[queue.name].discard(pattern)
            self._recorder.unsubscribed(pattern, receiver=queue.name)

    def deleted(self, queue_name: str) -> None:
        """A queue is gone, or was ours alone and went with its channel."""
        for pattern in self._patterns.pop(queue_name, ()):
            self._recorder.unsubscribed(pattern, receiver=queue_name)

    def _entitle(self, queue: Queue, pattern: str) -> None:
        self._patterns.setdefault(queue.name, set()).add(pattern)
        self._recorder.subscribed(pattern, receiver=queue.name, durable=outlives_consumers(queue))


def outlives_consumers(queue: Queue) -> bool:
    """Whether a queue keeps messages while nobody is connected; of one only looked up, we do not know."""
    return not (queue.exclusive or queue.auto_delete or queue.passive)


def _pattern(exchange: AbstractExchange | str, routing_key: str) -> str | None:
    name = name_of(exchange)
    kind = _PREDECLARED.get(name, getattr(exchange, "_type", ExchangeType.DIRECT.value))
    if kind == ExchangeType.HEADERS.value:
        return None
    return f"{name}:#" if kind == ExchangeType.FANOUT.value else f"{name}:{routing_key}"
