"""What becomes of Kafka records, with the cluster's own word for it."""

from contextlib import AsyncExitStack

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from kafka_shop import Shop
from scenario_support import until

from hopwatch.transports.aiokafka import AioKafkaInstrumentor
from hopwatch_collector.witness.kafka import KafkaWitness


@pytest.fixture
def shop(stage, kafka_bootstrap: str) -> Shop:
    """A shop on Kafka with its witness."""
    return Shop(stage(KafkaWitness(kafka_bootstrap), AioKafkaInstrumentor()), kafka_bootstrap)


@pytest.mark.scenario(1, "Kafka: consumed and committed")
async def test_consumed_and_committed(shop: Shop) -> None:
    """A record that a group processed and committed past is settled."""
    await shop.send("a", "b")
    assert await shop.read("billing", 2) == ["a", "b"]
    await shop.stage.judged(
        {("a", "billing"): "settled", ("b", "billing"): "settled"}, broker=[("a", "billing")]
    )


@pytest.mark.scenario(2, "Kafka: group behind")
async def test_group_behind(shop: Shop) -> None:
    """What a group has not read yet waits, and is overdue after its deadline; the broker is a witness."""
    await shop.send("a", "b", "c")
    assert await shop.read("billing", 1) == ["a"]
    behind = {("a", "billing"): "settled", ("b", "billing"): "waiting", ("c", "billing"): "waiting"}
    await shop.stage.judged(behind, broker=[("b", "billing")])
    late = {pair: "overdue" if verdict == "waiting" else verdict for pair, verdict in behind.items()}
    await shop.stage.judged(late, deadline_s=0.5)


@pytest.mark.scenario(12, "Kafka: topic without groups")
async def test_topic_without_groups(shop: Shop) -> None:
    """A record on a topic that no group reads has no receiver, and the broker says so too."""
    await shop.send("a")
    await shop.stage.judged({("a", ""): "no_receiver"}, broker=[("a", "")])


@pytest.mark.scenario(3, "Kafka: group stopped")
async def test_group_stopped(shop: Shop) -> None:
    """A group that read and left is still owed what comes after; the broker holds it, and nobody is reading."""
    await shop.send("a")
    assert await shop.read("billing", 1) == ["a"]
    await shop.stage.observe()
    await shop.send("b")
    expected = {("a", "billing"): "settled", ("b", "billing"): "overdue"}
    await shop.stage.judged(expected, broker=[("b", "billing")], deadline_s=1.0)


@pytest.mark.scenario(4, "Kafka: committed before processing, then crashed")
async def test_committed_before_processing(shop: Shop) -> None:
    """What a group's commit passed and nobody processed is skipped: its consumers tell what they process."""
    await shop.send("a")
    assert await shop.read("billing", 1) == ["a"]
    await shop.send("b", "c")
    async with shop.group("billing") as consumer:
        # As automatic commits do when the process dies between the poll and the work: position first, nothing handled.
        partition = TopicPartition(shop.topic, 0)
        await until(lambda: partition in consumer.assignment(), "the partition")
        await consumer.commit({partition: 3})
    expected = {("a", "billing"): "settled", ("b", "billing"): "skipped", ("c", "billing"): "skipped"}
    await shop.stage.judged(expected, broker=[("b", "billing")])


@pytest.mark.scenario(5, "Kafka: seek past messages")
async def test_seek_past_messages(shop: Shop) -> None:
    """What a consumer moved over and committed past is skipped; what it read after that is settled."""
    await shop.send("a")
    assert await shop.read("billing", 1) == ["a"]
    await shop.send("b", "c", "d")
    async with shop.group("billing") as consumer:
        partition = TopicPartition(shop.topic, 0)
        await until(lambda: partition in consumer.assignment(), "the partition")
        consumer.seek(partition, 3)
        record = await consumer.getone()
        assert record.value == b"d"
        await consumer.commit({partition: 4})
    expected = {
        ("a", "billing"): "settled", ("b", "billing"): "skipped", ("c", "billing"): "skipped", ("d", "billing"): "settled",
    }  # fmt: skip
    await shop.stage.judged(expected, broker=[("b", "billing")])


@pytest.mark.scenario(7, "Kafka: two groups, one behind")
async def test_two_groups(shop: Shop) -> None:
    """Each group has its own verdict on the same record."""
    await shop.send("a", "b")
    assert await shop.read("billing", 2) == ["a", "b"]
    assert await shop.read("audit", 1) == ["a"]
    expected = {
        ("a", "billing"): "settled", ("b", "billing"): "settled", ("a", "audit"): "settled", ("b", "audit"): "waiting",
    }  # fmt: skip
    await shop.stage.judged(expected, broker=[("b", "audit")])


@pytest.mark.scenario(10, "Kafka: a new group that starts at the latest")
async def test_new_group_at_latest(shop: Shop) -> None:
    """A group that begins at the end is not owed what was there before, only what comes after."""
    await shop.send("a")
    assert await shop.read("billing", 1) == ["a"]
    await shop.stage.observe()
    async with shop.group("newcomer", auto_offset_reset="latest") as consumer:
        partition = TopicPartition(shop.topic, 0)
        await until(lambda: partition in consumer.assignment(), "the partition")
        assert await consumer.position(partition) == 1
        await shop.send("b")
        record = await consumer.getone()
        assert record.value == b"b"
        await consumer.commit({partition: 2})
    assert await shop.read("billing", 1) == ["b"]
    expected = {("a", "billing"): "settled", ("b", "billing"): "settled", ("b", "newcomer"): "settled"}
    await shop.stage.judged(expected, broker=[("b", "newcomer")])


@pytest.mark.scenario(11, "Kafka: uninstrumented consumer group")
async def test_uninstrumented_group(shop: Shop) -> None:
    """What a group that tells nothing committed past is settled on the broker's word; the rest waits for it."""
    with shop.stage.unseen():
        await shop.send("before")
        assert await shop.read("legacy", 1) == ["before"]
    await shop.stage.observe()
    await shop.send("a", "b")
    await shop.stage.judged(
        {("a", "legacy"): "waiting", ("b", "legacy"): "waiting"}, broker=[("a", "legacy")]
    )
    with shop.stage.unseen():
        assert await shop.read("legacy", 1) == ["a"]
    told = await shop.stage.judged({("a", "legacy"): "settled", ("b", "legacy"): "waiting"})
    assert told["a", "legacy"].witnesses == ["producer", "broker"]
    assert told["a", "legacy"].reason == "the broker counts it as done; who processed it was not seen"


@pytest.mark.scenario(11, "Kafka: uninstrumented consumer group that has committed nothing yet")
async def test_uninstrumented_group_at_its_beginning(shop: Shop) -> None:
    """A group that tells nothing is owed what is sent while it has the topic, before its first commit too."""
    with shop.stage.unseen():
        await shop.send("before")
    async with AsyncExitStack() as stack:
        with shop.stage.unseen():
            consumer = await stack.enter_async_context(shop.group("legacy"))
            await until(lambda: bool(consumer.assignment()), "the assignment")
        await shop.stage.observe()
        await shop.send("a")
        await shop.stage.judged({("a", "legacy"): "waiting"})
        with shop.stage.unseen():
            for _ in range(2):
                record = await consumer.getone()
            await consumer.commit({TopicPartition(record.topic, record.partition): record.offset + 1})
        await shop.stage.judged({("a", "legacy"): "settled"})


@pytest.mark.scenario(13, "Kafka: replay by resetting offsets")
async def test_replay(shop: Shop) -> None:
    """Records read again after their group's offsets were set back are further attempts of the same deliveries."""
    await shop.send("a", "b")
    assert await shop.read("billing", 2) == ["a", "b"]
    async with shop.group("billing") as consumer:
        partition = TopicPartition(shop.topic, 0)
        await until(lambda: partition in consumer.assignment(), "the partition")
        await consumer.commit({partition: 0})
    assert await shop.read("billing", 2) == ["a", "b"]
    told = await shop.stage.judged({("a", "billing"): "settled", ("b", "billing"): "settled"})
    assert [told[name, "billing"].attempts for name in "ab"] == [2, 2]


@pytest.mark.scenario(6, "Kafka: retention removes unread records")
async def test_retention(shop: Shop) -> None:
    """Records removed before a group had read them are evicted for it; those that are left wait."""
    await shop.send("a")
    assert await shop.read("billing", 1) == ["a"]
    await shop.stage.observe()
    await shop.send("b", "c", "d")
    await shop.stage.observe()
    admin = AIOKafkaAdminClient(bootstrap_servers=shop.bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(shop.topic, 0): RecordsToDelete(3)})
    await admin.close()
    expected = {
        ("a", "billing"): "settled", ("b", "billing"): "evicted", ("c", "billing"): "evicted", ("d", "billing"): "waiting",
    }  # fmt: skip
    await shop.stage.judged(expected, broker=[("b", "billing")])
    # The group goes on behind the gap: what it missed stays evicted, it was not skipped.
    assert await shop.read("billing", 1) == ["d"]
    await shop.stage.judged({**expected, ("d", "billing"): "settled"})


@pytest.mark.scenario(8, "Kafka: rebalance in mid-batch")
async def test_rebalance_in_mid_batch(shop: Shop) -> None:
    """What the old member had read and not committed is read again by the new one: two attempts, one delivery."""
    await shop.send("a", "b", "c")
    partition = TopicPartition(shop.topic, 0)
    read: list[tuple[str, str]] = []
    async with shop.group("billing") as old:
        for _ in range(2):
            read.append(("old", (await old.getone()).value.decode()))
        await old.commit({partition: 1})
    async with shop.group("billing") as new:
        for _ in range(2):
            read.append(("new", (await new.getone()).value.decode()))
        await new.commit({partition: 3})
    assert read == [("old", "a"), ("old", "b"), ("new", "b"), ("new", "c")]
    told = await shop.stage.judged({(name, "billing"): "settled" for name in "abc"})
    assert {name: told[name, "billing"].attempts for name in "abc"} == {"a": 1, "b": 2, "c": 1}


@pytest.mark.scenario(9, "Kafka: aborted transaction")
async def test_aborted_transaction(shop: Shop) -> None:
    """A record of an aborted transaction is refused and owed to nobody, though the group's position passes it."""
    producer = AIOKafkaProducer(bootstrap_servers=shop.bootstrap, transactional_id=shop.stage.unique)
    async with producer:
        await producer.begin_transaction()
        with shop.stage.named("a"):
            await producer.send_and_wait(shop.topic, b"a")
        await producer.abort_transaction()
        async with producer.transaction():
            with shop.stage.named("b"):
                await producer.send_and_wait(shop.topic, b"b")
    async with shop.group("billing", isolation_level="read_committed") as consumer:
        record = await consumer.getone()
        assert record.value == b"b"
        await consumer.commit({TopicPartition(shop.topic, 0): record.offset + 1})
    told = await shop.stage.judged({("a", ""): "refused", ("b", "billing"): "settled"})
    assert told["a", ""].reason == "the broker did not take it: the transaction was aborted"
