"""What is particular to Kafka: positions, commits by hand and automatic, batches, headers as pairs."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import MessageSizeTooLargeError
from opentelemetry.trace import StatusCode
from transport_support import TIMEOUT_S, Consumers, all_of

from hopwatch.conventions import (
    ATTEMPT,
    ERROR_TYPE,
    KAFKA_OFFSET,
    KAFKA_TOMBSTONE,
    MESSAGE_ID,
    MESSAGE_ID_HEADER,
    MESSAGING_DESTINATION_PARTITION_ID,
    PENDING,
    PUBLISH_OUTCOME,
    RECEIVER,
    SETTLE_OUTCOME,
)
from hopwatch.transports.aiokafka.headers import header_getter
from hopwatch.transports.aiokafka.outcomes import Answers


async def test_a_send_knows_where_its_record_lies(producer: AIOKafkaProducer, unique: str, hops: Any) -> None:
    """Partition and offset come from the resolved future; waiting for it makes no second hop."""
    await producer.send_and_wait(unique, b"1")
    metadata = await (await producer.send(unique, b"2"))
    await hops.until(lambda: len(hops.sends()) == 2)
    told = [send.attributes for send in hops.sends()]
    assert [t[PUBLISH_OUTCOME] for t in told] == ["confirmed", "confirmed"]
    assert [t[KAFKA_OFFSET] for t in told] == [0, metadata.offset] == [0, 1]
    assert told[1][MESSAGING_DESTINATION_PARTITION_ID] == str(metadata.partition)


@pytest.mark.parametrize("headers", [None, [], (("mine", b"kept"),), [("mine", b"kept"), ("mine", b"twice")]])
async def test_headers_of_every_form_arrive(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any, headers: Any
) -> None:
    """None, lists and tuples go through with ours beside them; the caller's own are not touched."""
    before = list(headers or ())
    await producer.send_and_wait(unique, b"1", headers=headers)
    record = await asyncio.wait_for((await consume()).getone(), TIMEOUT_S)
    assert list(headers or ()) == before
    assert [pair for pair in record.headers if pair[0] == "mine"] == before
    assert dict(record.headers)[MESSAGE_ID_HEADER].decode() == hops.sends()[0].attributes[MESSAGE_ID]


async def test_serializers_run_once(kafka_bootstrap: str, producer: AIOKafkaProducer, unique: str) -> None:
    """Recording a send never serialises."""
    calls: list[Any] = []

    def serialize(value: Any) -> bytes:
        calls.append(value)
        return str(value).encode()

    other = AIOKafkaProducer(
        bootstrap_servers=kafka_bootstrap, value_serializer=serialize, key_serializer=serialize
    )
    await other.start()
    await other.send_and_wait(unique, 1, key=2)
    await other.stop()
    assert calls == [2, 1]


async def test_a_record_too_large_is_refused(producer: AIOKafkaProducer, unique: str, hops: Any) -> None:
    """The library says no before the broker is asked."""
    with pytest.raises(MessageSizeTooLargeError):
        await producer.send(unique, bytes(2_000_000))
    assert [send.attributes[PUBLISH_OUTCOME] for send in hops.sends()] == ["refused"]


async def test_a_record_the_broker_does_not_take_is_refused_when_it_says_so(
    producer: AIOKafkaProducer, kafka_bootstrap: str, unique: str, hops: Any
) -> None:
    """The hop lasts until the broker's answer, and carries its error."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    small = NewTopic(unique, 1, 1, topic_configs={"max.message.bytes": "1000"})
    await admin.create_topics([small])
    await admin.close()
    future = await producer.send(unique, bytes(5_000))
    assert hops.sends() == []
    with pytest.raises(MessageSizeTooLargeError):
        await future
    await hops.until(hops.sends)
    [send] = hops.sends()
    assert (send.attributes[PUBLISH_OUTCOME], send.status.status_code) == ("refused", StatusCode.ERROR)
    assert send.attributes[ERROR_TYPE] == "MessageSizeTooLargeError"


async def test_a_record_as_large_as_allowed_still_goes_through(
    producer: AIOKafkaProducer, unique: str
) -> None:
    """Headers of ours never push a record over the producer's limit."""
    await producer.send_and_wait(unique, bytes(producer._max_request_size - 100))


async def test_a_send_nobody_waits_for_is_unconfirmed(
    producer: AIOKafkaProducer, unique: str, hops: Any
) -> None:
    """A cancelled future hides the broker's answer from us too."""
    await producer.partitions_for(unique)
    (await producer.send(unique, b"1")).cancel()
    await hops.until(hops.sends)
    assert [send.attributes[PUBLISH_OUTCOME] for send in hops.sends()] == ["unconfirmed"]


async def test_without_acks_a_record_is_only_sent(
    kafka_bootstrap: str, producer: AIOKafkaProducer, unique: str, hops: Any
) -> None:
    """With acks=0 the broker does not answer."""
    other = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks=0)
    await other.start()
    await other.send_and_wait(unique, b"1")
    await other.stop()
    await hops.until(hops.sends)
    assert [send.attributes[PUBLISH_OUTCOME] for send in hops.sends()] == ["sent"]


async def test_a_tombstone_is_marked(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """A record without a value deletes its key."""
    await producer.send_and_wait(unique, None, key=b"k")
    consumer = await consume()
    await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
    await consumer.stop()
    [process] = await hops.processed()
    assert hops.sends()[0].attributes[KAFKA_TOMBSTONE] is process.attributes[KAFKA_TOMBSTONE] is True


async def test_a_loop_ends_an_attempt_when_it_comes_back(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """`async for` makes each record current until the next is asked for, and knows how many are behind it."""
    for body in (b"1", b"2"):
        await producer.send_and_wait(unique, body)
    consumer = await consume()
    async with asyncio.timeout(TIMEOUT_S):
        async for record in consumer:
            await producer.send_and_wait(f"{unique}-out", record.value)
            if record.value == b"2":
                break
    assert [span.attributes[KAFKA_OFFSET] for span in hops.processes()] == [0]
    await consumer.stop()
    first, second = await hops.processed(2)
    out = hops.sends()[2:]
    assert [send.parent.span_id for send in out] == [first.context.span_id, second.context.span_id]
    assert [first.attributes[PENDING], second.attributes[PENDING]] == [1, 0]
    assert first.attributes[RECEIVER] == f"{unique}-group"


async def test_a_commit_by_hand_ends_the_attempt(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """A handler that commits says that it is done; the settlement names partition and next offset, once."""
    await producer.send_and_wait(unique, b"1")
    consumer = await consume(enable_auto_commit=False)
    record = await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
    partition = TopicPartition(record.topic, record.partition)
    await consumer.commit({partition: record.offset + 1})
    await consumer.commit({partition: record.offset + 1})
    [process] = await hops.processed()
    [settle] = hops.settles()
    assert process.attributes[SETTLE_OUTCOME] == "none"
    assert settle.attributes[SETTLE_OUTCOME] == "commit"
    assert settle.attributes[RECEIVER] == f"{unique}-group"
    assert settle.attributes[KAFKA_OFFSET] == record.offset + 1
    assert settle.attributes[MESSAGING_DESTINATION_PARTITION_ID] == str(record.partition)


async def test_an_automatic_commit_is_a_settlement_too(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """aiokafka commits on its own when the consumer stops, after the attempts have ended."""
    await producer.send_and_wait(unique, b"1")
    consumer = await consume()
    await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
    await consumer.stop()
    [process], [settle] = hops.processes(), hops.settles()
    assert settle.attributes[KAFKA_OFFSET] == process.attributes[KAFKA_OFFSET] + 1
    assert settle.start_time >= process.end_time


async def test_a_batch_has_an_attempt_per_record(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """A loop over the batch makes each record current in turn, whatever the loop is left by."""
    for number in range(3):
        await producer.send_and_wait(unique, str(number).encode())
    consumer = await consume()
    batches = await asyncio.wait_for(all_of(consumer, 3), TIMEOUT_S)
    for batch in batches:
        assert isinstance(batch, list)
        for record in batch:
            await producer.send_and_wait(f"{unique}-out", record.value)
    await consumer.stop()
    attempts = {span.attributes[KAFKA_OFFSET]: span for span in await hops.processed(3)}
    assert [send.parent.span_id for send in hops.sends()[3:]] == [
        attempts[n].context.span_id for n in range(3)
    ]


async def test_records_only_collected_are_not_processed_yet(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """A comprehension over a batch does not end its attempts; coming back for more does."""
    for number in range(3):
        await producer.send_and_wait(unique, str(number).encode())
    consumer = await consume()
    batches = await asyncio.wait_for(all_of(consumer, 3), TIMEOUT_S)
    records = [record for batch in batches for record in batch]
    open_before = len(records) - len(hops.processes())
    assert open_before == len(batches[-1])
    await consumer.getmany(timeout_ms=0)
    assert len(hops.processes()) == 3


async def test_an_error_that_stops_a_consumer_is_seen(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """The body of a loop cannot be seen failing, but a consumer stopped on the way out can tell."""
    await producer.send_and_wait(unique, b"1")
    consumer = await consume(enable_auto_commit=False)

    async def run() -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                async for _ in consumer:
                    raise ValueError("broken")
        finally:
            await consumer.stop()

    with pytest.raises(ValueError, match="broken"):
        await run()
    [process] = await hops.processed()
    assert process.status.status_code is StatusCode.ERROR


async def test_a_fetch_with_a_time_limit_ends_the_attempt_before(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """`asyncio.wait_for` fetches in a task of its own, which is over by the time the next fetch begins."""
    for body in (b"1", b"2"):
        await producer.send_and_wait(unique, body)
    consumer = await consume()
    first = await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
    second = await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
    assert (first.value, second.value) == (b"1", b"2")
    assert [span.attributes[KAFKA_OFFSET] for span in hops.processes()] == [0]


async def test_sends_beyond_what_is_watched_by_batch_end_by_themselves(
    producer: AIOKafkaProducer, unique: str, hops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many may wait for the broker's answer that each is given a callback of its own: it ends no differently."""
    monkeypatch.setattr(Answers, "LIMIT", 1)
    sent = [await producer.send(unique, body) for body in (b"1", b"2", b"3")]
    answers = [await future for future in sent]
    await hops.until(lambda: len(hops.sends()) == 3)
    told = [send.attributes for send in hops.sends()]
    assert sorted(t[KAFKA_OFFSET] for t in told) == sorted(one.offset for one in answers)
    assert {t[PUBLISH_OUTCOME] for t in told} == {"confirmed"}


async def test_a_reader_without_a_group_settles_on_delivery(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """It commits nothing and shares with nobody."""
    await producer.send_and_wait(unique, b"1")
    consumer = await consume(group_id=None)
    await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
    await consumer.stop()
    [process] = await hops.processed()
    assert process.attributes[SETTLE_OUTCOME] == "auto"
    assert process.attributes[RECEIVER] == f"under-test:{unique}"
    assert len(hops.reports("subscribe")) == len(hops.reports("unsubscribe")) == 1


async def test_a_seek_back_is_another_attempt(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """Records handed over again in this process are numbered."""
    await producer.send_and_wait(unique, b"1")
    consumer = await consume()
    for _ in range(3):
        record = await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
        consumer.seek(TopicPartition(record.topic, record.partition), record.offset)
    await consumer.stop()
    assert [span.attributes[ATTEMPT] for span in await hops.processed(3)] == [1, 2, 3]


def test_of_two_headers_with_one_name_the_last_counts() -> None:
    """Instrumentations that append leave the stale one first."""
    headers = (("traceparent", b"stale"), ("traceparent", b"fresh"), ("empty", None))
    assert header_getter.get(headers, "traceparent") == ["fresh"]
    assert header_getter.get(headers, "empty") is None
    assert header_getter.get(headers, "absent") is None
