"""Kafka: which groups stand where on which partitions, and what the log still holds.

Needs DESCRIBE on the cluster's groups and topics, and READ on topics to tell how old the oldest waiting record is.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import GroupAuthorizationFailedError, KafkaConnectionError, KafkaError
from aiokafka.protocol.admin import (
    DescribeGroupsRequest_v3,
    DescribeGroupsResponse_v2,
    DescribeGroupsResponse_v3,
)

from hopwatch_collector.witness.model import NEVER, Claim, Look, Place, Position, WitnessAway

_TIMEOUT_S: Final = 10.0
_AGE_TIMEOUT_S: Final = 2.0
_AGES_AT_ONCE: Final = 200
"""Partitions whose oldest waiting record is read at one look."""
_REMEMBERED: Final = 10_000
_RIGHTS: Final = "its login needs DESCRIBE on all groups and topics"
_CLIENT: Final = "hopwatch-witness"
_EMPTY_AFTER_S: Final = 5.0
"""Seconds after which the offsets of groups without members are asked for again."""

# aiokafka 0.14 reads answers of this version by the schema of the one before, which loses every group but the first.
if DescribeGroupsRequest_v3.RESPONSE_TYPE is DescribeGroupsResponse_v2:
    DescribeGroupsRequest_v3.RESPONSE_TYPE = DescribeGroupsResponse_v3


@dataclass(frozen=True, slots=True)
class _Group:
    """A consumer group as its coordinator describes it."""

    name: str
    state: str
    members: int


class KafkaWitness:
    """Asks a Kafka cluster through its admin protocol; reads single records, commits nothing, joins no group."""

    system = "kafka"

    def __init__(self, bootstrap: str, **options: Any) -> None:
        """`options` go to aiokafka's clients: security_protocol, sasl_mechanism, and the like."""
        self.broker = bootstrap
        self._options = {"bootstrap_servers": bootstrap, "client_id": _CLIENT, **options}
        self._admin: AIOKafkaAdminClient | None = None
        self._reader: AIOKafkaConsumer | None = None
        self._ages: dict[tuple[TopicPartition, int], datetime] = {}
        self._coordinators: dict[str, int] = {}
        self._known: dict[str, Mapping[TopicPartition, int]] = {}
        self._empty_due = 0.0
        self._requests = 0

    async def look(self) -> Look:
        """See every group's offsets, and where its partitions begin and end."""
        self._requests = 0
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                admin, reader = await self._connected()
                sees_all = await self._may_see_groups(admin)
                groups = await self._groups(admin)
                offsets = await self._offsets(admin, groups)
                partitions = sorted({partition for known in offsets.values() for partition in known})
                first, end = await self._bounds(reader, partitions)
                if not groups and (not sees_all or not reader._client.cluster.topics()):
                    raise WitnessAway(f"Kafka at {self.broker} shows no groups: {_RIGHTS}")
        except (KafkaError, TimeoutError, OSError) as error:
            await self.close()
            raise WitnessAway(f"Kafka at {self.broker}: {type(error).__name__}: {error}") from error
        positions = {
            Place(group.name, str(partition.partition), partition.topic): _position(
                group, offset, first[partition], end[partition]
            )
            for group in groups
            for partition, offset in offsets[group.name].items()
            if partition in end
        }
        aged = await self._aged(reader, positions)
        blind = () if sees_all else (f"Kafka at {self.broker} may not show all groups: {_RIGHTS}",)
        return Look(frozenset(_claims(aged)), aged, requests=self._requests, blind=blind)

    async def close(self) -> None:
        """Disconnect."""
        admin, self._admin = self._admin, None
        reader, self._reader = self._reader, None
        self._coordinators = {}
        with suppress(KafkaError, OSError):
            if reader is not None:
                await reader.stop()
            if admin is not None:
                await admin.close()

    async def _connected(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        if self._admin is None or self._reader is None:
            await self.close()
            self._admin = AIOKafkaAdminClient(**self._options)
            self._reader = AIOKafkaConsumer(
                **self._options,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_uncommitted",
            )
            try:
                await self._admin.start()
                await self._reader.start()
            except KafkaConnectionError:
                await self._knock()
                raise
        return self._admin, self._reader

    async def _knock(self) -> None:
        """Raise why a broker does not let us in, which aiokafka's clients only log."""
        host, port, _ = collect_hosts(self.broker, randomize=False)[0]
        login = {k: v for k, v in self._options.items() if k.startswith(("security_", "sasl_", "ssl_"))}
        (await create_conn(host, port, **login)).close()

    async def _may_see_groups(self, admin: AIOKafkaAdminClient) -> bool:
        """Whether we may see any group there is: of those we may not, a list of groups just says nothing."""
        try:
            await self._coordinator(admin, _CLIENT)
        except GroupAuthorizationFailedError:
            return False
        return True

    async def _groups(self, admin: AIOKafkaAdminClient) -> list[_Group]:
        listed = await admin.list_consumer_groups()
        names = sorted(name for name, kind, *_ in listed if kind in ("consumer", ""))
        self._requests += 1
        self._coordinators = {
            name: self._coordinators.get(name) or await self._coordinator(admin, name) for name in names
        }
        by_node: dict[int, list[str]] = defaultdict(list)
        for name, node in self._coordinators.items():
            by_node[node].append(name)
        found = []
        for node, group_names in by_node.items():
            self._requests += 1
            for answer in await admin.describe_consumer_groups(group_names, group_coordinator_id=node):
                found += [
                    _Group(group[1], group[2], len(group[5])) for group in answer.groups if group[0] == 0
                ]
        return found

    async def _coordinator(self, admin: AIOKafkaAdminClient, group: str) -> int:
        self._requests += 1
        return int(await admin.find_coordinator(group))

    async def _offsets(
        self, admin: AIOKafkaAdminClient, groups: Iterable[_Group]
    ) -> Mapping[str, Mapping[TopicPartition, int]]:
        """Committed offsets per group; those of groups without members only change by hand, and are asked for less often."""
        due = time.monotonic() >= self._empty_due
        if due:
            self._empty_due = time.monotonic() + _EMPTY_AFTER_S
        old = {} if due else self._known
        wanted = [group.name for group in groups if group.members or group.name not in old]
        told = await asyncio.gather(*(self._offsets_of(admin, name) for name in wanted))
        fresh = dict(zip(wanted, told, strict=True))
        found = {group.name: fresh.get(group.name) or old.get(group.name, {}) for group in groups}
        # Only what was asked for while nobody was in the group is final.
        self._known = {group.name: found[group.name] for group in groups if not group.members}
        return found

    async def _offsets_of(self, admin: AIOKafkaAdminClient, group: str) -> Mapping[TopicPartition, int]:
        self._requests += 1
        known = await admin.list_consumer_group_offsets(group, group_coordinator_id=self._coordinators[group])
        return {partition: told.offset for partition, told in known.items() if told.offset >= 0}

    async def _bounds(
        self, reader: AIOKafkaConsumer, partitions: list[TopicPartition]
    ) -> tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]]:
        """Where these partitions begin and end; those of topics that were deleted are in neither."""
        # No topic by name: asked for one that was just deleted, a broker may create it again.
        await reader._client.set_topics(())
        self._requests += 1
        there = reader._client.cluster.topics()
        known = [partition for partition in partitions if partition.topic in there]
        if not known:
            return {}, {}
        self._requests += 2
        first = await reader.beginning_offsets(known)
        return first, await reader.end_offsets(known)

    async def _aged(
        self, reader: AIOKafkaConsumer, positions: Mapping[Place, Position]
    ) -> dict[Place, Position]:
        """The positions, with when the oldest waiting record was sent: its own timestamp, read once."""
        wanted = {
            place: (
                TopicPartition(place.destination, int(place.partition)),
                max(position.next, position.first),
            )
            for place, position in positions.items()
            if position.waiting > 0
        }
        unknown = [at for at in dict.fromkeys(wanted.values()) if at not in self._ages]
        for partition, offset in unknown[:_AGES_AT_ONCE]:
            await self._read_age(reader, partition, offset)
        if len(self._ages) > _REMEMBERED:
            self._ages = {at: self._ages[at] for at in wanted.values() if at in self._ages}
        return {
            place: replace(position, oldest_at=self._ages.get(wanted[place], NEVER))
            if place in wanted
            else position
            for place, position in positions.items()
        }

    async def _read_age(self, reader: AIOKafkaConsumer, partition: TopicPartition, offset: int) -> None:
        self._requests += 1
        with suppress(KafkaError, TimeoutError, OSError):
            reader.assign([partition])
            reader.seek(partition, offset)
            async with asyncio.timeout(_AGE_TIMEOUT_S):
                record: ConsumerRecord = await reader.getone(partition)
            self._ages[partition, offset] = datetime.fromtimestamp(record.timestamp / 1000, UTC)


def _position(group: _Group, offset: int, first: int, end: int) -> Position:
    return Position(
        first=first,
        end=end,
        next=offset,
        done=offset,
        waiting=max(0, end - max(offset, first)),
        consumers=group.members,
        state="" if group.members else "empty",
    )


def _claims(positions: Mapping[Place, Position]) -> Iterator[Claim]:
    """Groups are owed what lies behind their committed offsets, and what is written from now on."""
    waiting: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for place, position in positions.items():
        ages = waiting[place.destination, place.receiver]
        if position.oldest_at > NEVER:
            ages.append(position.oldest_at)
    for (topic, group), ages in waiting.items():
        yield Claim(topic, group, since=min(ages) if ages else None)
