"""Kafka: which groups stand where on which partitions, and what the log still holds.

Needs DESCRIBE on the cluster's groups and topics, READ on topics to tell how old the oldest waiting record is and which
offsets hold none, and DESCRIBE_CONFIGS on topics to tell compacted records from aborted ones.
"""

import asyncio
import re
import struct
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.admin import (
    DescribeGroupsRequest_v3,
    DescribeGroupsResponse_v2,
    DescribeGroupsResponse_v3,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest

from hopwatch_collector.witness.answers import words
from hopwatch_collector.witness.kafka_heads import Heads, Stretch
from hopwatch_collector.witness.kafka_metadata import Ids, Metadata
from hopwatch_collector.witness.model import (
    NEVER,
    UNTOLD,
    Claim,
    Look,
    Place,
    Position,
    Sighting,
    WitnessAway,
    in_partition,
)

_TIMEOUT_S: Final = 10.0
_RIGHTS: Final = "its login needs DESCRIBE on all groups and topics"
_CLIENT: Final = "hopwatch-witness"
_EMPTY_AFTER_S: Final = 5.0
"""Seconds after which the offsets of groups without members are asked for again."""
_POLICIES_AFTER_S: Final = 60.0
"""Seconds after which it is asked again which topics are compacted."""
_DOUBTED: Final = 100
"""Groups and topics that are missing from one look and asked for by name; the rest stays as it was until the next."""
_READINGS: Final = 3
"""How often offsets are read again because topics were made anew meanwhile; of those that still were, a look tells nothing."""
_BARRED: Final = GroupAuthorizationFailedError.errno
_MADE_UP: Final = re.compile(r"console-consumer-\d+|anonymous\.[0-9a-f-]{36}")
"""Names that a tool makes up for one run: nobody will come again under them."""
_DEAD: Final = "Dead"
"""What a coordinator says of a group that it knows nothing of, or whose protocol it does not describe."""

# aiokafka 0.14 reads answers of this version by the schema of the one before, which loses every group but the first.
if DescribeGroupsRequest_v3.RESPONSE_TYPE is DescribeGroupsResponse_v2:
    DescribeGroupsRequest_v3.RESPONSE_TYPE = DescribeGroupsResponse_v3


@dataclass(frozen=True, slots=True)
class _Group:
    """A consumer group as its coordinator describes it."""

    name: str
    state: str
    members: int
    """-1: it does not tell."""
    topics: frozenset[str] = frozenset()
    """Those that its members are assigned partitions of."""


@dataclass(frozen=True, slots=True)
class _Gaps:
    """Offsets in front of a group that hold no record, and why."""

    kind: str
    """`compacted` or `aborted`."""
    offsets: frozenset[int]


class KafkaWitness:
    """Asks a Kafka cluster through its admin protocol; reads single records, commits nothing, joins no group."""

    system = "kafka"

    def __init__(self, bootstrap: str, **options: Any) -> None:
        """`options` go to aiokafka's clients: security_protocol, sasl_mechanism, and the like."""
        self.broker = bootstrap
        self._options = {"bootstrap_servers": bootstrap, "client_id": _CLIENT, **options}
        self._admin: AIOKafkaAdminClient | None = None
        self._reader: AIOKafkaConsumer | None = None
        self._heads = Heads()
        self._metadata = Metadata()
        self._ids: Mapping[str, str] = {}
        self._compacted: dict[str, bool] = {}
        self._policies_due = 0.0
        self._asked: set[str] = set()
        self._noted: dict[Place, frozenset[int]] = {}
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
                groups, others = await self._groups(admin)
                seen, sightings, cluster = await self._seen(admin, reader, groups)
                if not groups and (not sees_all or not reader._client.cluster.topics()):
                    raise WitnessAway(f"Kafka at {self.broker} shows no groups: {_RIGHTS}")
        except (KafkaError, TimeoutError, OSError) as error:
            await self.close()
            raise WitnessAway(f"Kafka at {self.broker}: {type(error).__name__}: {error}") from error
        blind = (
            () if sees_all and not others else (f"Kafka at {self.broker} may not show all groups: {_RIGHTS}",)
        )
        return Look(
            frozenset(_claims(seen, groups)),
            seen,
            sightings,
            self._requests,
            blind,
            identities=(cluster,) if cluster else (),
        )

    async def hidden(self, missing: Collection[Place]) -> Mapping[Place, str]:
        """Return the places whose group or topic this login may not see, be it there or not."""
        if self._admin is None:
            return {}
        admin = self._admin
        groups = sorted({place.receiver for place in missing})
        topics = sorted({place.destination for place in missing})
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                unseen_groups = {
                    *[g for g in groups[:_DOUBTED] if await self._coordinator(admin, g) is None],
                    *groups[_DOUBTED:],
                }
                unseen_topics = {*await self._barred_topics(admin, topics[:_DOUBTED]), *topics[_DOUBTED:]}
        except (KafkaError, TimeoutError, OSError) as error:
            await self.close()
            raise WitnessAway(f"Kafka at {self.broker}: {type(error).__name__}: {error}") from error
        found = {place: _unseen(place, unseen_groups, unseen_topics) for place in missing}
        return {
            place: f"Kafka at {self.broker} does not show {what} any more: {_RIGHTS}"
            for place, what in found.items()
            if what
        }

    async def close(self) -> None:
        """Disconnect."""
        admin, self._admin = self._admin, None
        reader, self._reader = self._reader, None
        self._coordinators, self._known = {}, {}
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
        return await self._coordinator(admin, _CLIENT) is not None

    async def _barred_topics(self, admin: AIOKafkaAdminClient, topics: list[str]) -> list[str]:
        """Which of these we may not see. Asked for so that no broker makes one that is not there."""
        self._requests += 1
        answer = await admin._send_request(MetadataRequest(topics, allow_auto_topic_creation=False))
        return [told[1] for told in answer.topics if told[0] == TopicAuthorizationFailedError.errno]

    async def _groups(self, admin: AIOKafkaAdminClient) -> tuple[list[_Group], bool]:
        """Every group, and whether there are others that are listed and not described to us."""
        listed = await admin.list_consumer_groups()
        names = sorted(name for name, kind, *_ in listed if kind in ("consumer", ""))
        self._requests += 1
        known = self._coordinators
        nodes = {name: known.get(name) or await self._coordinator(admin, name) for name in names}
        self._coordinators = {name: node for name, node in nodes.items() if node is not None}
        by_node: dict[int, list[str]] = defaultdict(list)
        for name, node in self._coordinators.items():
            by_node[node].append(name)
        found = []
        for node, group_names in by_node.items():
            self._requests += 1
            for answer in await admin.describe_consumer_groups(group_names, group_coordinator_id=node):
                found += [_group(told) for told in answer.groups if told[0] != _BARRED]
        return found, len(found) < len(names)

    async def _coordinator(self, admin: AIOKafkaAdminClient, group: str) -> int | None:
        """The node that knows a group; None if we may not see the group, be it there or not."""
        self._requests += 1
        try:
            return int(await admin.find_coordinator(group))
        except GroupAuthorizationFailedError:
            return None

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
        # Not aiokafka's own function for it: of a group whose coordinator is only starting it says that it has no offsets.
        answer = await admin._send_request(OffsetFetchRequest(group, None), self._coordinators[group])
        if answer.error_code == _BARRED:
            return {}
        if answer.error_code:
            raise for_code(answer.error_code)(f"the offsets of {words(group)}")
        return {
            TopicPartition(topic, partition): offset
            for topic, partitions in answer.topics
            for partition, offset, _, error in partitions
            if offset >= 0 and not error
        }

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

    async def _seen(
        self, admin: AIOKafkaAdminClient, reader: AIOKafkaConsumer, groups: list[_Group]
    ) -> tuple[dict[Place, Position], tuple[Sighting, ...], str]:
        """How groups stand, what was found not to be there, once each, and the cluster's id.

        A topic may be deleted and made again at any moment. What was read between two answers that tell the same id of it is of
        that one topic; else it is read again.
        """
        for _ in range(_READINGS):
            positions, gaps = await self._read(admin, reader, groups)
            ids = await self._metadata.of(reader._client, {place.destination for place in positions})
            self._requests, self._metadata.requests = self._requests + self._metadata.requests, 0
            anew = {topic for topic, told in ids.topics.items() if self._ids.get(topic) != told}
            self._ids = ids.topics
            if not anew:
                break
            self._forget(anew)
        return (
            dict(_incarnated(positions, ids, anew)),
            tuple(
                self._new_sightings(
                    {place: one for place, one in gaps.items() if place.destination not in anew}
                )
            ),
            ids.cluster,
        )

    def _forget(self, topics: Collection[str]) -> None:
        """Have all read again that is remembered of these topics' names."""
        self._heads.forget(topics)
        self._noted = {place: told for place, told in self._noted.items() if place.destination not in topics}
        self._policies_due = self._empty_due = 0.0

    async def _read(
        self, admin: AIOKafkaAdminClient, reader: AIOKafkaConsumer, groups: list[_Group]
    ) -> tuple[dict[Place, Position], Mapping[Place, _Gaps]]:
        """How groups stand, with what really waits and since when; and what is not there of it."""
        offsets = await self._offsets(admin, groups)
        partitions = sorted({partition for known in offsets.values() for partition in known})
        first, end = await self._bounds(reader, partitions)
        positions = {
            Place(group.name, str(partition.partition), partition.topic): _position(
                group, offset, first[partition], end[partition]
            )
            for group in groups
            for partition, offset in offsets[group.name].items()
            if partition in end
        }
        return await self._looked_into(admin, reader, positions)

    async def _looked_into(
        self, admin: AIOKafkaAdminClient, reader: AIOKafkaConsumer, positions: Mapping[Place, Position]
    ) -> tuple[dict[Place, Position], Mapping[Place, _Gaps]]:
        """The positions with what really waits and since when; and what is not there of it."""
        compacted = await self._policies_of(admin, {place.destination for place in positions})
        self._heads.forget(topic for topic, is_so in compacted.items() if is_so)
        stretches = {
            place: Stretch(
                TopicPartition(place.destination, int(place.partition)),
                max(position.next, position.first),
                position.end,
            )
            for place, position in positions.items()
            if position.waiting > 0
        }
        heads = await self._heads.of(reader._client, stretches.values())
        self._requests, self._heads.requests = self._requests + self._heads.requests, 0
        seen = dict(positions)
        gaps: dict[Place, _Gaps] = {}
        for place, stretch in stretches.items():
            head = heads.get(stretch)
            if head is None:
                continue
            seen[place] = replace(positions[place], waiting=head.waiting(stretch), oldest_at=head.oldest_at)
            if place.destination in compacted:
                kind = "compacted" if compacted[place.destination] else "aborted"
                gaps[place] = _Gaps(kind, frozenset(head.gaps))
        for place, position in seen.items():
            if compacted.get(place.destination):
                seen[place] = replace(position, state="compacted")
        return seen, gaps

    def _new_sightings(self, gaps: Mapping[Place, _Gaps]) -> Iterator[Sighting]:
        """What is not there, of each place only what was not told before."""
        before, self._noted = self._noted, {place: told.offsets for place, told in gaps.items()}
        for place, told in gaps.items():
            for offset in sorted(told.offsets - before.get(place, frozenset())):
                yield _missing(place, offset, told.kind)

    async def _policies_of(self, admin: AIOKafkaAdminClient, topics: set[str]) -> Mapping[str, bool]:
        """Whether topics are compacted; those we may not know it of are left out."""
        if time.monotonic() < self._policies_due and self._asked >= topics:
            return self._compacted
        self._policies_due, self._asked, self._compacted = time.monotonic() + _POLICIES_AFTER_S, topics, {}
        resources = [
            ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": None}) for topic in topics
        ]
        if resources:
            self._requests += 1
            for answer in await admin.describe_configs(resources):
                for error, _, _, topic, entries in answer.resources:
                    if not error:
                        self._compacted[topic] = any("compact" in (entry[1] or "") for entry in entries)
        return self._compacted


def _group(told: Any) -> _Group:
    """A group as described: (error, name, state, protocol type, protocol, members, …)."""
    if told[0]:
        raise for_code(told[0])(f"the group {words(told[1])}")
    members = UNTOLD if told[2] == _DEAD else len(told[5])
    return _Group(told[1], told[2], members, frozenset(_assigned(told[5])))


def _assigned(members: Iterable[Any]) -> Iterator[str]:
    """The topics of members as described: (id, client, host, metadata, assignment); of another protocol than consumers' none."""
    for *_, assignment in members:
        with suppress(ValueError, struct.error):
            told = ConsumerProtocolMemberAssignment.decode(assignment)
            yield from (topic for topic, _ in told.assignment)


def _unseen(place: Place, groups: Collection[str], topics: Collection[str]) -> str:
    """What of a place may not be seen, in words; nothing if it is gone."""
    if place.receiver in groups:
        return f"the group {words(place.receiver)}"
    return f"the topic {words(place.destination)}" if place.destination in topics else ""


def _incarnated(
    positions: Mapping[Place, Position], ids: Ids, unsettled: Collection[str]
) -> Iterator[tuple[Place, Position]]:
    """The positions with the ids of their topics, without those of topics that are gone or change while they are looked at."""
    for place, position in positions.items():
        topic = place.destination
        if topic not in ids.missing and topic not in unsettled:
            yield place, replace(position, incarnation=ids.topics.get(topic, ""))


def _missing(place: Place, offset: int, kind: str) -> Sighting:
    return Sighting(
        place.receiver, f"{place.destination}:{place.partition}", offset, kind, 0, datetime.now(UTC)
    )


def _position(group: _Group, offset: int, first: int, end: int) -> Position:
    return Position(
        first=first,
        end=end,
        next=offset,
        done=offset,
        waiting=max(0, end - max(offset, first)),
        consumers=group.members,
        state={0: "empty", UNTOLD: "members untold"}.get(group.members, ""),
        kind="made up" if _MADE_UP.fullmatch(group.name) else "",
    )


def _claims(positions: Mapping[Place, Position], groups: Iterable[_Group]) -> Iterator[Claim]:
    """Groups are owed what lies behind their committed offsets, and what is written from now on.

    One that has committed nothing yet is owed what is written while its members are assigned the topic. Of a group without
    members, only partitions that it has committed: which ones a reader takes that is in no group's membership, as with
    `assign`, the broker does not tell.
    """
    waiting: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for place, position in positions.items():
        mark = "" if position.consumers else in_partition(place.partition)
        ages = waiting[mark + place.destination, place.receiver]
        if position.oldest_at > NEVER:
            ages.append(position.oldest_at)
    for (pattern, group), ages in waiting.items():
        yield Claim(pattern, group, since=min(ages) if ages else None)
    committed = {(place.destination, place.receiver) for place in positions}
    for one in groups:
        yield from (Claim(topic, one.name) for topic in one.topics if (topic, one.name) not in committed)
