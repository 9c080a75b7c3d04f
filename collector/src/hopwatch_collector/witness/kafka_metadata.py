"""Kafka: which cluster it is, and which topics of a name: the ids that a topic deleted and made again does not share.

aiokafka's own requests ask for no topic ids, so this is one that does; a broker that does not know it tells the cluster's only.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    NodeNotReadyError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from hopwatch_collector.witness.answers import MALFORMED, name

_METADATA: Final = 3
_VERSION: Final = 12
"""The first in which topics are asked for by name and answered with their ids, without making those that are not there."""
_NO_ID: Final = UUID(int=0)


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]  # aiokafka is not typed
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _Answer(Response):  # type: ignore[misc]
    API_KEY = _METADATA
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = _METADATA
    API_VERSION = _VERSION
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> "_Question":
        """Return itself, if the broker knows it. aiokafka calls this with what the broker knows."""
        lowest, highest = versions.get(_METADATA, (0, 0))
        if not lowest <= _VERSION <= highest:
            raise IncompatibleBrokerVersion("no topic ids")
        return self


@dataclass(frozen=True, slots=True)
class Ids:
    """What a cluster says it is, and which topics it has."""

    cluster: str
    """Empty: not told."""
    topics: Mapping[str, str]
    """Of each topic the id as a UUID; '' where it is not told."""
    missing: frozenset[str]
    """Of those asked for, the topics that are not there."""


class Metadata:
    """Asks one node for as long as it answers: another may not have heard yet of what this one told."""

    def __init__(self) -> None:
        """Any node may be asked first."""
        self._node: int | None = None
        self.requests = 0

    async def of(self, client: AIOKafkaClient, topics: Collection[str]) -> Ids:
        """Return the ids of the cluster and of these topics.

        Raises:
            KafkaError: no node answers.
        """
        nodes = sorted(broker.nodeId for broker in client.cluster.brokers())
        nodes.sort(key=lambda node: node != self._node)
        for node in nodes:
            try:
                found = await self._ask(client, node, topics)
            except (NodeNotReadyError, KafkaConnectionError):
                continue
            self._node = node
            return found
        raise KafkaConnectionError("no node answers which topics there are")

    async def _ask(self, client: AIOKafkaClient, node: int, topics: Collection[str]) -> Ids:
        self.requests += 1
        wanted: list[tuple[UUID, str, Mapping[int, bytes]]] = [
            (_NO_ID, topic, {}) for topic in sorted(topics)
        ]
        try:
            answer: Any = await client.send(node, _Question(wanted, False, False, {}))
        except IncompatibleBrokerVersion:
            answer = await client.send(node, MetadataRequest([], allow_auto_topic_creation=False))
            return Ids(_cluster(answer), {}, frozenset())
        return Ids(
            _cluster(answer),
            {told[1]: str(told[2]) for told in answer.topics if told[2] != _NO_ID},
            frozenset(told[1] for told in answer.topics if told[0] == UnknownTopicOrPartitionError.errno),
        )


def _cluster(answer: Any) -> str:
    try:
        return name(answer.cluster_id)
    except (AttributeError, *MALFORMED):  # none was told before version 2
        return ""
