"""Rounds over Kafka: topics, groups, members that come and go, a topic made again; and what is right to say of them."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from random import Random
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from services.truth_spec import SILENT, Client
from support.waiting import eventually_async

from truth.book import Attempt, Book
from truth.expected import HELD, OPEN, Doubts, Expected, joined, last
from truth.scenario import (
    HANGS,
    KILLED,
    PARTS,
    Fault,
    Member,
    Scenario,
    draw_end,
    draw_sender_telling,
    draw_shares,
    draw_telling,
)

REMADE: Final = "remake"
DELETED_WITHIN_S: Final = 3.0
"""A topic that was deleted is gone within a tenth of a second."""


def draw(lot: Random, seed: str, run: str, rate: float) -> Scenario:
    """Return a scenario: one topic, two or three groups with one or two members each."""
    partitions = lot.randint(1, 3)
    settings = {"rate": rate, "acks": 0 if lot.random() < 0.12 else "all"}
    sender = Client(f"{run}.sender", "kafka", "send", draw_sender_telling(lot), seed, run, run, "", settings)
    members: list[Member] = []
    for number in range(lot.randint(2, 3)):
        members += _group(lot, seed, run, f"{run}-g{number}", partitions)
    faults = (Fault(REMADE, run, lot.randint(1, PARTS - 1)),) if lot.random() < 0.2 else ()
    return Scenario("kafka", seed, run, sender, tuple(members), faults, {"partitions": partitions})


def _group(lot: Random, seed: str, run: str, group: str, partitions: int) -> Iterator[Member]:
    begins = 1 if lot.random() < 0.15 else 0
    settings = {
        "commit": lot.choice(["auto", "batch", "batch", "each"]),
        "at_most": lot.choice([1, 10, 50, 200]),
        "start": lot.choice(["earliest", "latest"]) if begins else "earliest",
    }
    for number in range(lot.randint(1, min(2, partitions))):
        telling = draw_telling(lot)
        read = lot.choice(["processing", "processing", "bare"])
        # Of a loop without `processing` nobody outside can see that its body failed.
        visible = telling == SILENT or read == "processing"
        passes = settings["commit"] in ("batch", "each") and lot.random() < 0.3
        client = Client(
            f"{group}.m{number}",
            "kafka",
            "receive",
            telling,
            seed,
            run,
            run,
            group,
            {**settings, "read": read, "passes": passes},
            draw_shares(lot, {"fail": 0.06}) if visible else {},
        )
        ends, at = draw_end(lot)
        yield Member(client, begins, ends, max(at, begins + 1) if begins else at)


class Stage:
    """The topic of a round, and what the broker says of it at the end."""

    def __init__(self, scenario: Scenario, url: str) -> None:
        self.scenario, self._url = scenario, url
        self._topic = scenario.run
        self.mark = "1"
        """Which incarnation of the topic there is."""
        self._partitions: list[int] = []
        self._places: dict[str, tuple[str, int, int]] = {}
        self._committed: dict[str, dict[int, int]] = {}

    async def prepare(self) -> None:
        """Make the topic."""
        await self._make()

    async def strike(self, fault: Fault) -> None:
        """Delete the topic and make it again under its name."""
        await self._look()
        admin = await self._admin()
        try:
            await admin.delete_topics([self._topic])
        finally:
            await admin.close()
        await self._make()
        self.mark = "2"

    async def finish(self) -> None:
        """See where everything lies and what is committed."""
        await self._look()
        admin = await self._admin()
        try:
            for group in {member.client.receiver for member in self.scenario.members}:
                offsets = await admin.list_consumer_group_offsets(group)
                self._committed[group] = {
                    place.partition: meta.offset
                    for place, meta in offsets.items()
                    if place.topic == self._topic and meta.offset >= 0
                }
        finally:
            await admin.close()

    async def clear(self) -> None:
        """Delete the topic."""
        admin = await self._admin()
        try:
            await admin.delete_topics([self._topic])
        finally:
            await admin.close()

    def expected(self, book: Book, doubts: Doubts) -> Iterator[Expected]:
        """Yield what is right to say of every record and group."""
        passed = {(one.receiver, one.partition, one.offset) for one in book.passed}
        began = self._began(book)
        for event, sent in book.sent.items():
            if event not in self._places:
                continue
            for group in dict.fromkeys(member.client.receiver for member in self.scenario.members):
                mark, partition, offset = self._places[event]
                late = self._late(group)
                attempt = last(book.attempts, (event, group))
                if attempt is None and late and mark == "1" and offset < began[group].get(partition, 0):
                    continue
                verdicts, truth = self._right(group, attempt, passed, self._places[event], doubts)
                doubt = [doubts.of_sender(), "" if sent.offset >= 0 else "its position was not told"]
                if attempt is None or attempt.how == "":
                    doubt.append(doubts.of_silence(group, sent, book.last_at))
                else:
                    doubt.append(doubts.of_attempt(attempt))
                    if sent.offset < 0 and not doubts.of_attempt(attempt):
                        doubt[1] = ""
                yield Expected(
                    event,
                    group,
                    verdicts,
                    f"{truth} ({partition}:{offset}, committed {self._committed[group].get(partition)})",
                    joined(doubt),
                    optional=bool(doubts.of_sender())
                    or (late and self._unknown_then(group, attempt, doubts)),
                )

    def _right(
        self,
        group: str,
        attempt: Attempt | None,
        passed: set[tuple[str, int, int]],
        place: tuple[str, int, int],
        doubts: Doubts,
    ) -> tuple[frozenset[str], str]:
        mark, partition, offset = place
        if mark != self.mark:
            return self._right_of_former(group, attempt, passed, place, doubts)
        beyond = self._committed[group].get(partition, 0) > offset
        if attempt is None:
            if not beyond:
                return frozenset({"overdue"}), "not read"
            return self._passed_over(group), "passed over"
        if beyond and attempt.how:
            if attempt.how == "ack":
                said = {"settled", *OPEN} if doubts.in_hand(attempt) else {"settled"}
                return frozenset(said), f"read by {attempt.client} and committed past"
            said = {"failed", "settled"} if doubts.silent(attempt) else {"failed"}
            return frozenset(said), f"failed at {attempt.client} and committed past"
        if beyond:
            return frozenset({"failed", "skipped", *OPEN}), f"{attempt.client} ended in the middle of it"
        said = OPEN | HELD | ({"failed"} if attempt.how == "fail" else set())
        return frozenset(said), f"{attempt.how or 'begun'} by {attempt.client}, not committed"

    def _passed_over(self, group: str) -> frozenset[str]:
        """Return what is right of a record that nobody read; to the broker it is done, and a silent member might have."""
        silent = any(not member.client.told for member in self.scenario.of(group))
        return frozenset({"skipped", "settled"} if silent else {"skipped"})

    def _right_of_former(
        self,
        group: str,
        attempt: Attempt | None,
        passed: set[tuple[str, int, int]],
        place: tuple[str, int, int],
        doubts: Doubts,
    ) -> tuple[frozenset[str], str]:
        """Return what is right of a record of the topic that was deleted."""
        if attempt is None:
            if (group, *place[1:]) not in passed:
                return frozenset({"lost"}), "not read before the topic was deleted"
            return self._passed_over(group), "passed over before the topic was deleted"
        uncommitted = {"lost", *OPEN} if doubts.torn(attempt) or self._halted(attempt.client) else set()
        if attempt.how == "ack":
            return frozenset(
                {"settled", *uncommitted}
            ), f"read by {attempt.client} before the topic was deleted"
        said = {"failed", *uncommitted} | ({"settled"} if doubts.silent(attempt) else set())
        return frozenset(said), f"failed at {attempt.client} before the topic was deleted"

    def _halted(self, client: str) -> bool:
        member = next(one for one in self.scenario.members if one.client.name == client)
        return member.ends in (HANGS, KILLED)

    def _late(self, group: str) -> bool:
        return all(member.begins for member in self.scenario.of(group))

    def _unknown_then(self, group: str, attempt: Attempt | None, doubts: Doubts) -> bool:
        """Whether the ledger may not connect it with a group that came later: nobody told, or it was never read."""
        return attempt is None or doubts.of_attempt(attempt) != ""

    def _began(self, book: Book) -> dict[str, dict[int, int]]:
        began: dict[str, dict[int, int]] = defaultdict(dict)
        for line in book.began:
            began[line.receiver].setdefault(line.partition, line.offset)
        return began

    async def _admin(self) -> AIOKafkaAdminClient:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._url)
        await admin.start()
        return admin

    async def _make(self) -> None:
        """Make the topic. One of that name that stays there is another already: a client that asked for it had it made."""
        loop = asyncio.get_running_loop()
        deleted_by = loop.time() + DELETED_WITHIN_S

        async def made() -> bool:
            admin = await self._admin()
            try:
                topic = NewTopic(self._topic, self.scenario.topology["partitions"], 1)
                ((_, error, *_),) = (await admin.create_topics([topic])).topic_errors
                (told,) = await admin.describe_topics([self._topic])
            except KafkaError:
                return False
            finally:
                await admin.close()
            self._partitions = [one["partition"] for one in told["partitions"]]
            return bool(self._partitions) and (error == 0 or loop.time() > deleted_by)

        await eventually_async(made, what=f"topic {self._topic}")

    async def _look(self) -> None:
        """Note where every record lies that is there now; without a group, so that nobody knows of it."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self._url, enable_auto_commit=False)
        await consumer.start()
        try:
            partitions = [TopicPartition(self._topic, number) for number in self._partitions]
            ends = await consumer.end_offsets(partitions)
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            while any([await consumer.position(place) < end for place, end in ends.items()]):
                for place, records in (await consumer.getmany(timeout_ms=500)).items():
                    for record in records:
                        event = (record.value or b"").decode()
                        self._places[event] = self.mark, place.partition, record.offset
        finally:
            await consumer.stop()
