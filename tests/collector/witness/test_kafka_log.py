"""Kafka's log has gaps and groups have moods: what really waits, and what became of records nobody will read."""

import time
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete
from kafka_shop import Shop, administering
from ledger_support import T0, in_kafka, sent, take
from scenario_support import KEY, until

from hopwatch.transports.aiokafka import AioKafkaInstrumentor
from hopwatch_collector.api.models import LagRow
from hopwatch_collector.query import Queries
from hopwatch_collector.witness.kafka import KafkaWitness

pytestmark = pytest.mark.kafka


@pytest.fixture
def shop(stage, kafka_bootstrap: str) -> Shop:
    """A shop on Kafka with its witness."""
    return Shop(stage(KafkaWitness(kafka_bootstrap), AioKafkaInstrumentor()), kafka_bootstrap)


async def lag(shop: Shop, group: str) -> LagRow:
    """How far a group is behind, says the collector after one look."""
    await shop.stage.observe()
    rows = Queries(shop.stage.store).lag().rows
    (row,) = [one for one in rows if (one.destination, one.receiver) == (shop.topic, group)]
    assert row.by_broker
    return row


async def lag_is(shop: Shop, group: str, waiting: int) -> None:
    """Wait until so many records wait for a group, and see that it stays so at the next look."""
    await until(lambda: _waits(shop, group, waiting), f"{waiting} to wait for {group}")
    assert (await lag(shop, group)).waiting == waiting


async def _waits(shop: Shop, group: str, waiting: int) -> bool:
    return (await lag(shop, group)).waiting == waiting


async def test_transaction_markers_are_no_lag(shop: Shop) -> None:
    """The markers that end transactions take offsets: a group that read all records has nothing waiting for it."""
    async with AIOKafkaProducer(
        bootstrap_servers=shop.bootstrap, transactional_id=shop.stage.unique
    ) as producer:
        async with producer.transaction():
            with shop.stage.named("a"):
                await producer.send_and_wait(shop.topic, b"a")
        assert await shop.read("billing", 1) == ["a"]
        await lag_is(shop, "billing", 0)
        # What an aborted transaction left is not counted either, nor is its marker.
        await producer.begin_transaction()
        await producer.send_and_wait(shop.topic, b"never")
        await producer.abort_transaction()
        async with producer.transaction():
            with shop.stage.named("b"):
                await producer.send_and_wait(shop.topic, b"b")
        await lag_is(shop, "billing", 1)
    await shop.stage.judged(
        {("a", "billing"): "settled", ("b", "billing"): "waiting"}, broker=[("b", "billing")]
    )


async def test_abort_that_the_sender_does_not_tell(shop: Shop) -> None:
    """Of a record that another library said to have sent, the broker's log shows that its transaction was aborted."""
    await shop.send("a")
    assert await shop.read("billing", 1) == ["a"]
    await shop.stage.observe()
    with shop.stage.unseen():
        producer = AIOKafkaProducer(bootstrap_servers=shop.bootstrap, transactional_id=shop.stage.unique)
        async with producer:
            await producer.begin_transaction()
            told = await producer.send_and_wait(shop.topic, b"b")
            await producer.abort_transaction()
    now = (datetime.now(UTC) - T0).total_seconds()
    key = {f"hopwatch__key__{KEY}": f"{shop.stage.unique}.b"}
    take(shop.stage.store, sent(shop.topic, "kafka", start=now, **in_kafka(told.offset), **key))
    expected = {("a", "billing"): "settled", ("b", "billing"): "refused"}
    said = await shop.stage.judged(expected, broker=[("b", "billing")])
    assert said["b", "billing"].cause == "refused.aborted"
    assert (await lag(shop, "billing")).waiting == 0


async def test_lag_behind_deleted_records(shop: Shop) -> None:
    """Records that were deleted are not waiting for anybody; those behind them are."""
    await shop.send("a")
    assert await shop.read("billing", 1) == ["a"]
    await shop.send("b", "c", "d")
    async with administering(shop.bootstrap) as admin:
        await admin.delete_records({TopicPartition(shop.topic, 0): RecordsToDelete(3)})
    await lag_is(shop, "billing", 1)


async def test_paused_group_is_overdue(shop: Shop) -> None:
    """A member that paused its partitions is there and reads nothing: what comes waits, and is overdue in time."""
    # Other tests may have members in a group of the same name at the same time, and a broker counts them all.
    group = f"billing-{shop.stage.unique}"
    await shop.send("a")
    async with shop.group(group) as consumer:
        record = await consumer.getone()
        partition = TopicPartition(shop.topic, 0)
        await consumer.commit({partition: record.offset + 1})
        consumer.pause(partition)
        await shop.send("b")
        expected = {("a", group): "settled", ("b", group): "overdue"}
        await shop.stage.judged(expected, broker=[("b", group)], deadline_s=1.0)
        row = await lag(shop, group)
        assert (row.waiting, row.consumers) == (1, 1)


async def test_idle_producer_does_not_hide_age(shop: Shop) -> None:
    """How old the oldest waiting record is comes from the record itself, though nothing has been written since."""
    await shop.send("a")
    assert await shop.read("billing", 1) == ["a"]
    async with AIOKafkaProducer(bootstrap_servers=shop.bootstrap) as producer:
        await producer.send_and_wait(
            shop.topic, b"an hour ago", timestamp_ms=int((time.time() - 3600) * 1000)
        )
        await producer.send_and_wait(shop.topic, b"now")
    row = await lag(shop, "billing")
    assert row.waiting == 2
    assert 3600 <= row.oldest_s < 3700


async def test_group_without_members(shop: Shop) -> None:
    """A reader that assigns itself its partitions is in no group, but commits for one: that one is owed what is next."""
    await shop.send("a")
    partition = TopicPartition(shop.topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=shop.bootstrap, group_id="loner", enable_auto_commit=False)
    await consumer.start()
    consumer.assign([partition])
    await consumer.seek_to_beginning(partition)
    record = await consumer.getone()
    await consumer.commit({partition: record.offset + 1})
    await consumer.stop()
    await shop.stage.observe()
    await shop.send("b")
    expected = {("a", "loner"): "settled", ("b", "loner"): "waiting"}
    await shop.stage.judged(expected, broker=[("b", "loner")])
    row = await lag(shop, "loner")
    assert (row.waiting, row.consumers) == (1, 0)


async def test_static_member_that_left(shop: Shop) -> None:
    """A static member that stopped is still counted until its session is over; what comes waits for its group."""
    await shop.send("a")
    async with shop.group("static", group_instance_id="one", session_timeout_ms=6000) as consumer:
        record = await consumer.getone()
        await consumer.commit({TopicPartition(shop.topic, 0): record.offset + 1})
    await shop.send("b")
    await shop.stage.judged(
        {("a", "static"): "settled", ("b", "static"): "waiting"}, broker=[("b", "static")]
    )
    row = await lag(shop, "static")
    assert (row.waiting, row.consumers) == (1, 1)


async def test_sought_past_and_back(shop: Shop) -> None:
    """What a seek jumps over is skipped though nothing is committed; sought back to it waits again, and read it settles."""
    await shop.send("a", "b", "c")
    partition = TopicPartition(shop.topic, 0)
    settled = {("a", "billing"): "settled"}
    async with shop.group("billing") as consumer:
        assert (await consumer.getone()).value == b"a"
        await consumer.commit({partition: 1})
        consumer.seek(partition, 3)
        told = await shop.stage.judged({**settled, ("b", "billing"): "skipped", ("c", "billing"): "skipped"})
        assert told["b", "billing"].cause == "skipped.seek"
        assert "consumer" in told["b", "billing"].witnesses
        consumer.seek(partition, 2)
        await shop.stage.judged({**settled, ("b", "billing"): "skipped", ("c", "billing"): "waiting"})
        assert (await consumer.getone()).value == b"c"
        await consumer.commit({partition: 3})
    await shop.stage.judged({**settled, ("b", "billing"): "skipped", ("c", "billing"): "settled"})
