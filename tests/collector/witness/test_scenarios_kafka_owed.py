"""Who is owed records: partitions assigned by hand, groups that nobody is in any more."""

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from kafka_shop import Shop, administering

from hopwatch.transports.aiokafka import AioKafkaInstrumentor
from hopwatch_collector.witness.kafka import KafkaWitness


@pytest.fixture
async def shop(stage, kafka_bootstrap: str) -> AsyncIterator[Shop]:
    """A shop on Kafka with its witness, and a topic of two partitions."""
    one = Shop(stage(KafkaWitness(kafka_bootstrap), AioKafkaInstrumentor()), kafka_bootstrap)
    async with administering(kafka_bootstrap) as admin:
        await admin.create_topics([NewTopic(one.topic, 2, 1)])
        yield one
        await admin.delete_topics([one.topic])


async def send(shop: Shop, **partitions: int) -> None:
    """Send one record per name, to that partition."""
    async with AIOKafkaProducer(bootstrap_servers=shop.bootstrap) as producer:
        for name, partition in partitions.items():
            with shop.stage.named(name):
                await producer.send_and_wait(shop.topic, name.encode(), partition=partition)


async def read_by_hand(shop: Shop, group: str, partition: int, count: int) -> list[str]:
    """Have a consumer to which a partition is assigned by hand read and commit so many."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=shop.bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    own = TopicPartition(shop.topic, partition)
    await consumer.start()
    try:
        consumer.assign([own])
        got = []
        for _ in range(count):
            record = await consumer.getone()
            got.append(record.value.decode())
            await consumer.commit({own: record.offset + 1})
        return got
    finally:
        await consumer.stop()


@pytest.mark.parametrize("seen", [True, False], ids=["instrumented", "not instrumented"])
@pytest.mark.scenario(77, "Kafka: a partition assigned by hand")
async def test_assigned_by_hand(shop: Shop, seen: bool) -> None:
    """A reader of one partition is owed nothing of the others, whether it tells or not."""
    await send(shop, a=0)
    if seen:
        assert await read_by_hand(shop, "billing", 0, 1) == ["a"]
    else:
        with shop.stage.unseen():
            assert await read_by_hand(shop, "billing", 0, 1) == ["a"]
    await shop.stage.observe()
    await send(shop, b=0, c=1)
    expected = {("a", "billing"): "settled", ("b", "billing"): "overdue", ("c", ""): "no_receiver"}
    if not seen:
        del expected["a", "billing"]
    await shop.stage.judged(
        expected,
        broker=[("b", "billing")],
        deadline_s=1.0,
        only=lambda one: seen or shop.stage.name_of(one) != "a",
    )


@pytest.mark.scenario(78, "Kafka: group left over by a tool")
async def test_left_over(shop: Shop) -> None:
    """What comes to a group whose name was made up for one run is not overdue: nobody will come again under that name."""
    group = "console-consumer-12345"
    with shop.stage.unseen():
        async with shop.group(group) as consumer:
            await consumer.getmany(timeout_ms=3000)
            await consumer.commit({TopicPartition(shop.topic, 0): 0, TopicPartition(shop.topic, 1): 0})
    await shop.stage.observe()
    await send(shop, a=0)
    told = await shop.stage.judged({("a", group): "waiting"}, broker=[("a", group)], deadline_s=1.0)
    assert told["a", group].cause == "waiting.left_over"
