"""Kafka: what really lies in front of a group. Offsets have gaps: transaction markers, aborted and compacted records."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from hopwatch_collector.witness.model import NEVER

COUNTED: Final = 500
"""Offsets in front of a group that are looked at one by one; of a longer stretch only the first record is read."""
_AT_ONCE: Final = 200
"""Stretches read at one look."""
_MAX_BYTES: Final = 64 * 1024
"""Of one partition."""
_MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
_REMEMBERED: Final = 10_000
_READ_COMMITTED: Final = 1


@dataclass(frozen=True, slots=True)
class Stretch:
    """The offsets from a group's next one to the end of a partition."""

    partition: TopicPartition
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Head:
    """What was read of a stretch, as those see it who read committed records only."""

    read_to: int
    """The offset up to which it was read: the start if nothing could be read yet."""
    records: int
    oldest_at: datetime
    gaps: tuple[int, ...]
    """Offsets among those read that hold no record."""

    def waiting(self, stretch: Stretch) -> int:
        """Return how many records wait, as far as was read; beyond that every offset counts as one."""
        return self.records + max(0, stretch.end - self.read_to)


class Heads:
    """Reads the heads of stretches, each once for as long as it stays the same."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: dict[tuple[TopicPartition, int, int], Head] = {}
        self.requests = 0

    async def of(self, client: AIOKafkaClient, stretches: Iterable[Stretch]) -> Mapping[Stretch, Head]:
        """Return the heads of those stretches that could be read, which are not all of very many."""
        wanted = dict.fromkeys(stretches)
        unread = [stretch for stretch in wanted if _key(stretch) not in self._known][:_AT_ONCE]
        for at_once in _rounds(unread):
            await self._read(client, at_once)
        found = {stretch: self._known[_key(stretch)] for stretch in wanted if _key(stretch) in self._known}
        if len(self._known) > _REMEMBERED:
            self._known = {_key(stretch): head for stretch, head in found.items()}
        return found

    def forget(self, topics: Iterable[str]) -> None:
        """Have these topics read again: their records may be removed at any offset."""
        gone = set(topics)
        self._known = {key: head for key, head in self._known.items() if key[0].topic not in gone}

    async def _read(self, client: AIOKafkaClient, stretches: Mapping[TopicPartition, Stretch]) -> None:
        by_node: dict[int, dict[str, list[tuple[int, int, int]]]] = defaultdict(lambda: defaultdict(list))
        for partition, stretch in stretches.items():
            node = client.cluster.leader_for_partition(partition)
            if node is not None and node >= 0:
                by_node[node][partition.topic].append((partition.partition, stretch.start, _MAX_BYTES))
        for node, topics in by_node.items():
            self.requests += 1
            request = FetchRequest(0, 0, _MAX_ANSWER_BYTES, _READ_COMMITTED, list(topics.items()))
            try:
                answer = await client.send(node, request)
            except KafkaError:
                continue  # how old what waits is can be told next time
            for partition, told in _partitions(answer):
                if partition in stretches and told[0] == 0:
                    self._note(stretches[partition], told)

    def _note(self, stretch: Stretch, told: tuple[Any, ...]) -> None:
        """Take down what a partition answered: (error, high watermark, …, aborted transactions, …, records)."""
        aborted = next((part for part in told[2:-1] if isinstance(part, list | tuple)), None)
        try:
            head = _head(stretch, aborted, told[-1])
        except (KafkaError, ValueError):
            return  # compressed in a way this installation cannot read, or damaged
        if head is not None:
            self._known[_key(stretch)] = head


def _head(stretch: Stretch, aborted: Sequence[Any] | None, records: bytes) -> Head | None:
    """Read what a partition answered; None if it answered nothing, as when everything is in an open transaction."""
    batches = MemoryRecords(records)
    if not batches.has_next():
        return None
    read = PartitionRecords(
        stretch.partition, batches, aborted, stretch.start, None, None, True, _READ_COMMITTED
    )
    present: list[int] = []
    oldest = NEVER
    short = stretch.end - stretch.start <= COUNTED
    for record in read:
        if not present:
            oldest = _moment(record.timestamp)
        present.append(record.offset)
        if not short:
            break
    read_to = max(read.next_fetch_offset, stretch.start)
    if not short:
        first = present[0] if present else read_to
        return Head(first, 0, oldest, tuple(range(stretch.start, min(first, stretch.start + COUNTED))))
    there = set(present)
    gaps = tuple(offset for offset in range(stretch.start, min(read_to, stretch.end)) if offset not in there)
    return Head(read_to, len(present), oldest, gaps)


def _moment(milliseconds: int) -> datetime:
    """A record's time; producers write into it what they like, and one that is yet to come says nothing."""
    known = 0 < milliseconds <= time.time() * 1000
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if known else NEVER


def _rounds(stretches: Iterable[Stretch]) -> Iterator[Mapping[TopicPartition, Stretch]]:
    """One request can ask for a partition only once; groups stand at different offsets of it."""
    rounds: list[dict[TopicPartition, Stretch]] = []
    for stretch in stretches:
        free = next((one for one in rounds if stretch.partition not in one), None)
        if free is None:
            rounds.append(free := {})
        free[stretch.partition] = stretch
    return iter(rounds)


def _partitions(answer: Any) -> Iterator[tuple[TopicPartition, tuple[Any, ...]]]:
    for topic, partitions in answer.topics:
        for partition, *told in partitions:
            yield TopicPartition(topic, partition), tuple(told)


def _key(stretch: Stretch) -> tuple[TopicPartition, int, int]:
    """A long stretch stays the same while its start does; a short one is read again whenever it grows."""
    long = stretch.end - stretch.start > COUNTED
    return stretch.partition, stretch.start, -1 if long else stretch.end
