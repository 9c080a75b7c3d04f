"""Batches built by hand and transactions: a hop per record, whose outcome is that of the whole."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, ProducerFenced
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from transport_support import TIMEOUT_S, Consumers, Producers, all_of, outcomes

from hopwatch.conventions import (
    DESTINATION,
    KAFKA_OFFSET,
    KAFKA_TOMBSTONE,
    MESSAGE_ID,
    MESSAGE_ID_HEADER,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_DESTINATION_PARTITION_ID,
    REASON,
    RECEIVER,
    SETTLE_OUTCOME,
)
from hopwatch.transports.aiokafka import AioKafkaInstrumentor


async def test_a_batch_is_a_send_per_record(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """Every record carries its own id to its receivers, and knows its own offset and topic."""
    await producer.send_and_wait(unique, b"before")
    batch = producer.create_batch()
    with trace.get_tracer("app").start_as_current_span("job") as job:
        batch.append(timestamp=None, key=b"k", value=b"1", headers=[("mine", b"kept")])
        batch.append(timestamp=None, key=b"k", value=None)
    assert len(hops.sends()) == 1
    await (await producer.send_batch(batch, unique, partition=0))
    _, one, two = hops.sends()
    assert outcomes(hops) == ["confirmed"] * 3
    assert [(s.name, s.attributes[DESTINATION]) for s in (one, two)] == [(f"send {unique}", unique)] * 2
    assert [s.attributes[MESSAGING_DESTINATION_NAME] for s in (one, two)] == [unique] * 2
    assert [
        (s.attributes[MESSAGING_DESTINATION_PARTITION_ID], s.attributes[KAFKA_OFFSET]) for s in (one, two)
    ] == [
        ("0", 1),
        ("0", 2),
    ]
    assert [s.attributes.get(KAFKA_TOMBSTONE) for s in (one, two)] == [None, True]
    assert {s.parent.span_id for s in (one, two)} == {job.get_span_context().span_id}
    consumer = await consume()
    records = [record for got in await all_of(consumer, 3) for record in got][1:]
    await consumer.stop()
    assert [dict(r.headers)[MESSAGE_ID_HEADER].decode() for r in records] == [
        s.attributes[MESSAGE_ID] for s in (one, two)
    ]
    assert dict(records[0].headers)["mine"] == b"kept"
    assert {p.attributes[MESSAGE_ID] for p in hops.processes()} == {
        s.attributes[MESSAGE_ID] for s in hops.sends()
    }


async def test_an_open_batch_takes_single_sends_too(
    produce: Producers, consume: Consumers, unique: str, hops: Any
) -> None:
    """What `send` adds to a batch that was left open is recorded once, with its own offset and the id it carries."""
    producer = await produce(linger_ms=200)
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"1")
    answer = await producer.send_batch(batch, unique, partition=0)
    alone = await producer.send(unique, b"2", partition=0)
    assert batch.record_count() == 2
    await asyncio.gather(answer, alone)
    await hops.until(lambda: len(hops.sends()) == 2)
    consumer = await consume(group_id=None)
    records = [record for got in await all_of(consumer, 2) for record in got]
    assert {(r.offset, dict(r.headers)[MESSAGE_ID_HEADER].decode()) for r in records} == {
        (send.attributes[KAFKA_OFFSET], send.attributes[MESSAGE_ID]) for send in hops.sends()
    }


async def test_a_full_batch_says_so_as_ever(produce: Producers, unique: str, hops: Any) -> None:
    """A record that does not fit is not appended and no hop; the first always fits."""
    producer = await produce(max_batch_size=400)
    batch = producer.create_batch()
    assert batch.append(timestamp=None, key=None, value=bytes(390)) is not None
    assert batch.append(timestamp=None, key=None, value=bytes(390)) is None
    assert batch.closed()
    await (await producer.send_batch(batch, unique, partition=0))
    assert outcomes(hops) == ["confirmed"]


async def test_a_batch_never_sent_is_never_reported(producer: AIOKafkaProducer, hops: Any) -> None:
    """Records that only wait in a builder are no messages yet."""
    producer.create_batch().append(timestamp=None, key=None, value=b"1")
    assert hops.all() == ()


async def test_a_batch_the_library_does_not_take_is_refused(
    produce: Producers, unique: str, hops: Any
) -> None:
    """The library's exception is on every record."""
    producer = await produce(transactional_id=unique)
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"1")
    batch.append(timestamp=None, key=None, value=b"2")
    with pytest.raises(IllegalOperation):
        await producer.send_batch(batch, unique, partition=0)
    assert outcomes(hops) == ["refused", "refused"]


async def test_a_builder_from_before_uninstrument_goes_on(
    producer: AIOKafkaProducer, unique: str, hops: Any
) -> None:
    """Its wrapper becomes transparent."""
    batch = producer.create_batch()
    AioKafkaInstrumentor().uninstrument()
    try:
        assert batch.append(timestamp=None, key=None, value=b"1").offset == 0
        assert (await (await producer.send_batch(batch, unique, partition=0))).offset == 0
        assert hops.all() == ()
    finally:
        AioKafkaInstrumentor().instrument(skip_dep_check=True)


async def test_a_committed_transaction_confirms_its_records(
    produce: Producers, consume: Consumers, unique: str, hops: Any
) -> None:
    """Sends and batches are confirmed with the commit, not before; so are the positions moved with them."""
    producer = await produce(transactional_id=unique)
    async with producer.transaction():
        await producer.send_and_wait(unique, b"1")
        batch = producer.create_batch()
        batch.append(timestamp=None, key=None, value=b"2")
        await (await producer.send_batch(batch, unique, partition=0))
        await producer.send_offsets_to_transaction({TopicPartition(unique, 0): 7}, f"{unique}-group")
        assert hops.sends() == hops.settles() == []
    assert outcomes(hops) == ["confirmed", "confirmed"]
    assert [send.attributes[KAFKA_OFFSET] for send in hops.sends()] == [0, 1]
    [moved] = hops.settles()
    assert (moved.attributes[RECEIVER], moved.attributes[KAFKA_OFFSET]) == (f"{unique}-group", 7)
    assert moved.attributes[SETTLE_OUTCOME] == "commit"
    consumer = await consume(group_id=None, isolation_level="read_committed")
    assert sum(map(len, await asyncio.wait_for(all_of(consumer, 2), TIMEOUT_S))) == 2


async def test_an_aborted_transaction_refuses_its_records(
    produce: Producers, consume: Consumers, unique: str, hops: Any
) -> None:
    """The broker answered each, but no reader of committed records will see them: they must not look confirmed."""
    producer = await produce(transactional_id=unique)

    async def fail() -> None:
        async with producer.transaction():
            await producer.send_and_wait(unique, b"lost")
            await producer.send_offsets_to_transaction({TopicPartition(unique, 0): 7}, f"{unique}-group")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await fail()
    async with producer.transaction():
        await producer.send_and_wait(unique, b"kept")
    lost, kept = hops.sends()
    assert outcomes(hops) == ["refused", "confirmed"]
    assert (lost.attributes[REASON], lost.status.status_code) == (
        "the transaction was aborted",
        StatusCode.ERROR,
    )
    assert kept.status.status_code is StatusCode.UNSET
    assert hops.settles() == []
    consumer = await consume(group_id=None, isolation_level="read_committed")
    record = await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
    assert record.value == b"kept"
    assert dict(record.headers)[MESSAGE_ID_HEADER].decode() == kept.attributes[MESSAGE_ID]


async def test_a_committed_record_is_confirmed_though_nobody_waited_for_it(
    produce: Producers, consume: Consumers, unique: str, hops: Any
) -> None:
    """Cancelling a send's future does not take the record back, and the commit answers for it; only its place is unknown."""
    producer = await produce(transactional_id=unique)
    async with producer.transaction():
        (await producer.send(unique, b"1")).cancel()
    assert outcomes(hops) == ["confirmed"]
    assert KAFKA_OFFSET not in hops.sends()[0].attributes
    consumer = await consume(group_id=None, isolation_level="read_committed")
    assert (await asyncio.wait_for(consumer.getone(), TIMEOUT_S)).value == b"1"


async def test_a_fenced_producer_has_confirmed_nothing(produce: Producers, unique: str, hops: Any) -> None:
    """A second producer with the same id ends the first one's transaction."""
    first = await produce(transactional_id=unique)
    await first.begin_transaction()
    await first.send_and_wait(unique, b"1")
    await produce(transactional_id=unique)
    with pytest.raises(ProducerFenced):
        await first.commit_transaction()
    await first.stop()
    assert outcomes(hops) == ["refused"]


async def test_a_transaction_left_open_is_refused(produce: Producers, unique: str, hops: Any) -> None:
    """A producer that stops in mid-transaction leaves it to the broker to abort."""
    producer = await produce(transactional_id=unique)
    await producer.begin_transaction()
    await producer.send_and_wait(unique, b"1")
    await producer.stop()
    [send] = hops.sends()
    assert outcomes(hops) == ["refused"]
    assert "stopped before" in send.attributes[REASON]


async def test_a_commit_not_waited_for_is_unconfirmed(produce: Producers, unique: str, hops: Any) -> None:
    """Cancelled, it may come to pass or not."""
    producer = await produce(transactional_id=unique)
    await producer.begin_transaction()
    await producer.send_and_wait(unique, b"1")
    committing = asyncio.create_task(producer.commit_transaction())
    await asyncio.sleep(0)  # lets it begin
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    assert outcomes(hops) == ["unconfirmed"]
