"""Where a record goes and comes from, and what its key, headers and commits say in words."""

from collections.abc import Iterable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.conn import collect_hosts
from opentelemetry.util.types import AttributeValue

from hopwatch.conventions import KAFKA_MESSAGE_KEY, MESSAGING_CONVERSATION_ID
from hopwatch.servers import Address, Servers
from hopwatch.wrapping import service_name

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


servers: Final = Servers(_address)
"""The clusters that this process's Kafka clients were told of."""


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
