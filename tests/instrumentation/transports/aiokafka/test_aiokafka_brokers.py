"""Which cluster a record is of: told with every hop and report as soon as the client knows it."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from transport_support import TIMEOUT_S, Consumers, Producers

from hopwatch import reports
from hopwatch.conventions import BROKER, MEMBER, RECEIVER, REPORT
from hopwatch.transports.aiokafka import AioKafkaInstrumentor


@pytest.fixture
async def admin(kafka_bootstrap: str) -> Any:
    """The broker's own word."""
    client = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await client.start()
    yield client
    await client.close()


async def cluster_of(admin: AIOKafkaAdminClient) -> str:
    """Return the cluster's id."""
    return str((await admin.describe_cluster())["cluster_id"])


@pytest.mark.parametrize("provider_kind", ["lean", "sdk"])
async def test_every_hop_and_report_names_the_cluster(
    produce: Producers,
    consume: Consumers,
    admin: Any,
    unique: str,
    hops: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Single records and batches, transactions, commits, seeks and subscriptions, whoever's provider records it."""
    monkeypatch.setattr(reports, "OPEN_AFTER_S", 0.0)
    producer = await produce(transactional_id=unique)
    group, alone = await consume(), await consume(group_id=None)
    async with producer.transaction():
        await producer.send_and_wait(unique, b"1")
        batch = producer.create_batch()
        batch.append(timestamp=None, key=None, value=b"2")
        await (await producer.send_batch(batch, unique, partition=0))
        await producer.send_offsets_to_transaction({TopicPartition(unique, 0): 1}, f"{unique}-other")
    await asyncio.wait_for(group.getone(), TIMEOUT_S)
    await hops.until(lambda: hops.reports("open"))
    await group.commit()
    await alone.getmany(timeout_ms=int(TIMEOUT_S * 1000))
    alone.seek(TopicPartition(unique, 0), 0)
    await group.stop()
    await alone.stop()
    assert len(hops.sends()) == 2
    assert len(hops.processes()) >= 2
    assert {span.attributes[RECEIVER] for span in hops.settles()} == {f"{unique}-group", f"{unique}-other"}
    assert {span.attributes[REPORT] for span in hops.all() if REPORT in span.attributes} == {
        "open",
        "subscribe",
        "unsubscribe",
        "skip",
    }
    assert {span.attributes.get(BROKER) for span in hops.all()} == {await cluster_of(admin)}


async def test_a_cluster_that_becomes_known_later_is_told_from_then_on(
    kafka_bootstrap: str, admin: Any, unique: str, hops: Any
) -> None:
    """What was prepared for a topic before is prepared again: the client asks for metadata whenever it likes."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap)
    await producer.start()  # nobody was listening yet
    AioKafkaInstrumentor().instrument(skip_dep_check=True)
    try:
        await producer.send_and_wait(unique, b"1")
        await producer.send_and_wait(unique, b"2")
        told = [BROKER in send.attributes for send in hops.sends()]
        await producer.client.force_metadata_update()
        await producer.send_and_wait(unique, b"3")
    finally:
        await producer.stop()
        AioKafkaInstrumentor().uninstrument()
    assert told[0] is False  # the topic was new: its metadata came with the first send
    assert hops.sends()[-1].attributes[BROKER] == await cluster_of(admin)


async def test_a_member_of_a_group_is_named_as_the_broker_lists_it(
    producer: AIOKafkaProducer, consume: Consumers, admin: Any, unique: str, hops: Any
) -> None:
    """Each of two in one process; one that left keeps nothing, the group keeps its claim; one on its own is no member."""
    await producer.send_and_wait(unique, b"1")
    group = f"{unique}-group"
    one = await consume()
    two = await consume()
    await hops.until(lambda: len(members(hops, group)) == 2)
    assert members(hops, group) == await listed(admin, group)
    await one.stop()
    await two.stop()
    assert hops.reports("unsubscribe") == []
    alone = await consume(group_id=None)
    await alone.stop()
    assert [MEMBER in report for report in hops.reports("unsubscribe")] == [False]


async def test_a_group_s_claim_outlives_its_members(
    producer: AIOKafkaProducer,
    consume: Consumers,
    admin: Any,
    unique: str,
    hops: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes on being reported, of the same cluster, and as nobody's in particular."""
    monkeypatch.setattr(reports, "SUBSCRIBE_EVERY_S", 0.1)
    await producer.send_and_wait(unique, b"1")
    consumer = await consume()
    await consumer.stop()
    await hops.until(lambda: MEMBER not in hops.reports("subscribe")[-1])
    assert hops.reports("subscribe")[-1][BROKER] == await cluster_of(admin)


def members(hops: Any, group: str) -> set[str]:
    """Return who told that it is a member of a group."""
    return {report[MEMBER] for report in hops.reports("subscribe") if report[RECEIVER] == group}


async def listed(admin: Any, group: str) -> set[str]:
    """Return the members that the broker lists."""
    [response] = await admin.describe_consumer_groups([group])
    [described] = response.groups
    return {member[0] for member in described[5]}
