"""Where a record goes and comes from, and what its key, headers and commits say in words."""

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakSet

from aiokafka import AIOKafkaConsumer
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import collect_hosts
from opentelemetry.util.types import AttributeValue

from hopwatch.beside import Beside
from hopwatch.conventions import BROKER, KAFKA_MESSAGE_KEY, MESSAGING_CONVERSATION_ID
from hopwatch.recorder import Destination
from hopwatch.servers import Address, Servers
from hopwatch.wrapping import Args, Kwargs, guarded, service_name

T = TypeVar("T")

CORRELATION_HEADERS: Final = frozenset(
    {"correlation_id", "correlation-id", "correlationid", "kafka_correlationid"}
)
"""Names, in lower case, under which request-reply over Kafka travels; Kafka itself knows none."""

MAX_KEY_LENGTH: Final = 256
"""Characters of a record's key that are kept, where keys are asked for."""


def _address(client: Any) -> Address:
    """Return the first configured server: a cluster has no other address of its own."""
    hosts = collect_hosts(client._bootstrap_servers, randomize=False)
    return (hosts[0][0], hosts[0][1]) if hosts else (None, None)


class Listener(Protocol):
    """Keeps what is the same for all messages of a client."""

    def forget(self) -> None:
        """Work it out anew: the id of a client's cluster has become known, or has become another."""
        ...


class Clusters:
    """The ids of the clusters that clients belong to: said with all metadata, and kept by nobody but this.

    aiokafka below 0.13 asks in a way that brokers answer without it.
    """

    def __init__(self) -> None:
        self._ids: Beside[str] = Beside()
        self.listeners: WeakSet[Listener] = WeakSet()

    def of(self, client: Any) -> str | None:
        """Return the id of a client's cluster, None before its first metadata."""
        return self._ids.get(client.cluster)

    def update(self, wrapped: Callable[..., T], cluster: ClusterMetadata, args: Args, kwargs: Kwargs) -> T:
        """Read a cluster's id off its metadata."""
        self._learn(cluster, args[0] if args else kwargs.get("metadata"))
        return wrapped(*args, **kwargs)

    @guarded
    def _learn(self, cluster: ClusterMetadata, metadata: Any) -> None:
        told = getattr(metadata, "cluster_id", None)
        if told and told != self._ids.get(cluster):
            self._ids.put(cluster, told)
            for listener in [*self.listeners]:
                listener.forget()


clusters: Final = Clusters()
"""The clusters of this process's Kafka clients."""

servers: Final = Servers(_address, clusters.of, clusters.of)
"""The servers that this process's Kafka clients were told of."""


def committed_at(topic: str, client: Any) -> Destination:
    """Return the place of a commit, which names no server: its group's coordinator may be any."""
    broker = servers.broker_of(client)
    return Destination(topic, topic, {BROKER: broker} if broker else {})


def receiver_of(consumer: AIOKafkaConsumer, topic: str) -> str:
    """Return who is owed what a consumer reads: its group, or this service on its own."""
    return consumer._group_id or f"{service_name()}:{topic}"


def conversation(headers: Iterable[tuple[str, Any]] | None) -> dict[str, AttributeValue]:
    """Return the correlation id that an application put into the headers, which ties a reply to its request."""
    for name, value in headers or ():
        if name.lower() in CORRELATION_HEADERS and (text := _text(value)):
            return {MESSAGING_CONVERSATION_ID: text}
    return {}


def key(value: Any) -> dict[str, AttributeValue]:
    """Return a record's key where it has an unambiguous form as text."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value)
    return {} if text is None else {KAFKA_MESSAGE_KEY: text[:MAX_KEY_LENGTH]}


def offset_of(committed: Any) -> int:
    """Return the offset of one entry of `commit(offsets)`: a number, or a pair of it and metadata."""
    if committed is None:
        return -1
    return int(committed[0] if isinstance(committed, tuple) else committed)


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
