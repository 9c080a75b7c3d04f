"""Groups and positions: rebalances, seeks, partitions, lag; request-reply; what is recorded only on request."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from opentelemetry import trace
from transport_support import TIMEOUT_S, Consumers, all_of

from hopwatch.conventions import (
    ATTEMPT,
    KAFKA_MESSAGE_KEY,
    KAFKA_OFFSET,
    MESSAGE_ID,
    MESSAGING_BODY_SIZE,
    MESSAGING_CONVERSATION_ID,
    MESSAGING_DESTINATION_PARTITION_ID,
    PENDING,
    REASON,
    RECEIVER,
    SERVER_ADDRESS,
    SERVER_PORT,
    SETTLE_OUTCOME,
    SKIPPED_UNTIL,
    SUBSCRIPTION_PATTERN,
)
from hopwatch.transports.aiokafka import AioKafkaInstrumentor


class Listener(ConsumerRebalanceListener):
    """Notes what an application is told of its partitions."""

    def __init__(self) -> None:
        self.told: list[tuple[str, set[int]]] = []

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Note what is taken away."""
        self.told.append(("revoked", {partition.partition for partition in revoked}))

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Note what is given."""
        self.told.append(("assigned", {partition.partition for partition in assigned}))


async def in_partition(producer: AIOKafkaProducer, topic: str, partition: int, *bodies: bytes) -> None:
    """Send records to one partition."""
    for body in bodies:
        await producer.send_and_wait(topic, body, partition=partition)


async def test_a_partition_that_goes_to_another_member_ends_its_hops(
    producer: AIOKafkaProducer, consume: Consumers, two_partitions: str, unique: str, hops: Any
) -> None:
    """What is in hand of it cannot be settled here any more; the rest goes on, and the listener is told as ever."""
    await in_partition(producer, unique, 0, b"0")
    await in_partition(producer, unique, 1, b"1")
    listener = Listener()
    first = await consume(listener=listener, enable_auto_commit=False)
    held = {
        record.partition: record
        for batch in await asyncio.wait_for(all_of(first, 2), TIMEOUT_S)
        for record in batch
    }
    assert (set(held), hops.processes()) == ({0, 1}, [])
    second = await consume(enable_auto_commit=False)
    [lost] = await hops.processed()
    assert lost.attributes[MESSAGING_DESTINATION_PARTITION_ID] in {
        str(partition.partition) for partition in second.assignment()
    }
    assert lost.attributes[SETTLE_OUTCOME] == "none"
    assert "another member" in lost.attributes[REASON]
    again = await asyncio.wait_for(second.getone(), TIMEOUT_S)
    assert str(again.partition) == lost.attributes[MESSAGING_DESTINATION_PARTITION_ID]
    held.clear()
    await first.commit()
    await first.stop()
    await second.stop()
    kept = next(span for span in hops.processes() if span not in (lost, hops.processes()[-1]))
    assert REASON not in kept.attributes
    repeated = hops.processes()[-1]
    assert (repeated.attributes[MESSAGE_ID], repeated.attributes[ATTEMPT]) == (lost.attributes[MESSAGE_ID], 2)
    assert listener.told[-2:] == [("revoked", {0, 1}), ("assigned", {kept_partition(kept)})]


def kept_partition(span: Any) -> int:
    """Return the partition an attempt was of."""
    return int(span.attributes[MESSAGING_DESTINATION_PARTITION_ID])


async def test_partitions_assigned_by_hand_are_reported_one_by_one(
    producer: AIOKafkaProducer, kafka_bootstrap: str, two_partitions: str, unique: str, hops: Any
) -> None:
    """Others of the topic are not this consumer's; and what is assigned instead is told."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka_bootstrap, group_id=unique)
    await consumer.start()
    consumer.assign([TopicPartition(unique, 0)])
    await hops.until(lambda: f"partition 0\x1f{unique}" in patterns(hops))
    consumer.assign([TopicPartition(unique, 1)])
    await hops.until(lambda: f"partition 1\x1f{unique}" in patterns(hops))
    await consumer.stop()
    assert unique not in patterns(hops)


async def test_topics_that_come_to_match_a_pattern_are_reported(
    producer: AIOKafkaProducer, kafka_bootstrap: str, unique: str, hops: Any
) -> None:
    """A pattern's topics are known to the group, and to us, from the rebalance that brings them."""
    await producer.send_and_wait(f"{unique}.one", b"1")
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka_bootstrap, group_id=unique, metadata_max_age_ms=200)
    await consumer.start()
    consumer.subscribe(pattern=f"^{unique}\\.")
    await hops.until(lambda: f"{unique}.one" in patterns(hops))
    await producer.send_and_wait(f"{unique}.two", b"2")
    await hops.until(lambda: f"{unique}.two" in patterns(hops))
    await consumer.stop()


def patterns(hops: Any) -> list[str]:
    """Return what subscriptions were reported."""
    return [report[SUBSCRIPTION_PATTERN] for report in hops.reports("subscribe")]


async def test_a_seek_reports_where_it_leads(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """First and next offset, for this receiver, of what it skips; a seek back says that too, one to where it is nothing."""
    await in_partition(producer, unique, 0, b"0", b"1", b"2", b"3")
    consumer = await consume(enable_auto_commit=False)
    partition = TopicPartition(unique, 0)
    assert (await asyncio.wait_for(consumer.getone(), TIMEOUT_S)).offset == 0
    consumer.seek(partition, 3)
    assert (await asyncio.wait_for(consumer.getone(), TIMEOUT_S)).offset == 3
    consumer.seek(partition, 4)
    consumer.seek(partition, 1)
    skip, back = hops.reports("skip")
    assert (skip[KAFKA_OFFSET], skip[SKIPPED_UNTIL]) == (1, 3)
    assert (back[KAFKA_OFFSET], back[SKIPPED_UNTIL]) == (4, 1)
    assert (skip[RECEIVER], skip[MESSAGING_DESTINATION_PARTITION_ID]) == (f"{unique}-group", "0")


async def test_a_seek_to_the_end_or_to_what_is_committed_reports_too(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """Where to is the broker's knowledge; the records in between are skipped all the same."""
    await in_partition(producer, unique, 0, b"0", b"1", b"2")
    consumer = await consume(enable_auto_commit=False)
    partition = TopicPartition(unique, 0)
    await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
    await consumer.commit({partition: 2})
    assert await consumer.seek_to_committed() == {partition: 2}
    await consumer.seek_to_beginning()
    assert await consumer.seek_to_end()
    assert [(skip[KAFKA_OFFSET], skip[SKIPPED_UNTIL]) for skip in hops.reports("skip")] == [
        (1, 2),
        (2, 0),
        (0, 3),
    ]


async def test_a_record_without_key_names_the_partition_it_went_to(
    producer: AIOKafkaProducer, consume: Consumers, two_partitions: str, unique: str, hops: Any
) -> None:
    """The partitioner chooses at random; what is recorded is what the broker answered."""
    for number in range(12):
        await producer.send_and_wait(unique, str(number).encode())
    consumer = await consume()
    records = [
        record for batch in await asyncio.wait_for(all_of(consumer, 12), TIMEOUT_S) for record in batch
    ]
    truth = {(record.value, record.partition, record.offset) for record in records}
    sent = {
        (
            str(number).encode(),
            int(send.attributes[MESSAGING_DESTINATION_PARTITION_ID]),
            send.attributes[KAFKA_OFFSET],
        )
        for number, send in enumerate(hops.sends())
    }
    assert sent == truth
    assert {partition for _, partition, _ in truth} == {0, 1}


async def test_lag_is_what_lies_behind_in_the_same_partition(
    producer: AIOKafkaProducer, consume: Consumers, two_partitions: str, unique: str, hops: Any
) -> None:
    """The high watermark comes with every fetch."""
    await in_partition(producer, unique, 0, b"0", b"0", b"0")
    await in_partition(producer, unique, 1, b"1")
    consumer = await consume()
    await asyncio.wait_for(all_of(consumer, 4), TIMEOUT_S)
    await consumer.stop()
    pending = {
        (span.attributes[MESSAGING_DESTINATION_PARTITION_ID], span.attributes[KAFKA_OFFSET]): span.attributes[
            PENDING
        ]
        for span in await hops.processed(4)
    }
    assert pending == {("0", 0): 2, ("0", 1): 1, ("0", 2): 0, ("1", 0): 0}


@pytest.mark.parametrize("name", ["correlation_id", "kafka_correlationId"])
async def test_a_request_and_its_reply_share_a_conversation(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any, name: str
) -> None:
    """Two messages of one flow, tied by the correlation id that the application puts into the headers."""
    replies = f"{unique}-replies"
    await producer.send_and_wait(unique, b"?", headers=[(name, b"c-1"), ("reply_to", replies.encode())])
    server, client = await consume(), await consume(replies, group_id=f"{unique}-client")
    async with asyncio.timeout(TIMEOUT_S):
        async for request in server:
            headers = dict(request.headers)
            await producer.send_and_wait(headers["reply_to"].decode(), b"!", headers=[(name, headers[name])])
            break
        await client.getone()
    await server.stop()
    await client.stop()
    asked, answered = hops.sends()
    spans = (asked, answered, *await hops.processed(2))
    assert {span.attributes[MESSAGING_CONVERSATION_ID] for span in spans} == {"c-1"}
    assert len({span.context.trace_id for span in spans}) == 1
    assert len({span.attributes[MESSAGE_ID] for span in spans}) == 2


async def test_a_request_without_a_reply_is_a_conversation_of_one(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """That nothing came back is visible: one message sent and handled, none answered."""
    await producer.send_and_wait(unique, b"?", headers=[("correlation_id", b"c-2")])
    server = await consume()
    await asyncio.wait_for(server.getone(), TIMEOUT_S)
    await server.stop()
    talk = [span for span in hops.all() if span.attributes.get(MESSAGING_CONVERSATION_ID) == "c-2"]
    assert [span.name for span in talk] == [f"send {unique}", f"process {unique}"]


async def test_a_copy_forwarded_later_links_to_the_original(
    producer: AIOKafkaProducer, consume: Consumers, unique: str, hops: Any
) -> None:
    """Sent by a task that knows nothing of the message it copies, it still tells which one that was."""
    await producer.send_and_wait(unique, b"1")
    consumer = await consume()
    record = await asyncio.wait_for(asyncio.create_task(consumer.getone()), TIMEOUT_S)
    assert not trace.get_current_span().get_span_context().is_valid
    await producer.send_and_wait(f"{unique}-copy", record.value, headers=record.headers)
    original, copy = hops.sends()
    [link] = copy.links
    assert link.context.span_id == original.context.span_id
    assert link.attributes[MESSAGE_ID] == original.attributes[MESSAGE_ID] != copy.attributes[MESSAGE_ID]


async def test_every_hop_names_its_server(
    producer: AIOKafkaProducer, consume: Consumers, kafka_bootstrap: str, unique: str, hops: Any
) -> None:
    """The first of the servers that the client was told of."""
    await producer.send_and_wait(unique, b"1")
    consumer = await consume()
    await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
    await consumer.stop()
    host, _, port = kafka_bootstrap.partition(",")[0].rpartition(":")
    for span in (*hops.sends(), *hops.processes()):
        assert (span.attributes[SERVER_ADDRESS], span.attributes[SERVER_PORT]) == (host, int(port))


async def test_keys_and_sizes_are_recorded_only_on_request(
    kafka_bootstrap: str, unique: str, hops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts, numbers and bytes that are text; what has no form as text is left out, whatever it is."""

    async def send_and_get() -> list[Any]:
        AioKafkaInstrumentor().instrument(skip_dep_check=True)
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka_bootstrap,
            key_serializer=lambda key: key if isinstance(key, bytes) else str(key).encode(),
        )
        await producer.start()
        for key in (b"user-1", "user-2", 3, b"\xff\xfe", object(), None):
            await producer.send_and_wait(unique, b"12345", key=key)
        await producer.stop()
        AioKafkaInstrumentor().uninstrument()
        return [send.attributes for send in hops.sends()[-6:]]

    assert not [
        told for told in await send_and_get() if KAFKA_MESSAGE_KEY in told or MESSAGING_BODY_SIZE in told
    ]
    monkeypatch.setenv("HOPWATCH_RECORD", "message_key, body_size")
    told = await send_and_get()
    assert [t.get(KAFKA_MESSAGE_KEY) for t in told] == ["user-1", "user-2", "3", None, None, None]
    assert [t[MESSAGING_BODY_SIZE] for t in told] == [5] * 6


async def test_consumers_record_keys_and_sizes_on_request(
    producer: AIOKafkaProducer, kafka_bootstrap: str, unique: str, hops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key as the application sees it, the size as it came over the wire."""
    await producer.send_and_wait(unique, b"12345", key=b"user-1")
    AioKafkaInstrumentor().uninstrument()
    monkeypatch.setenv("HOPWATCH_RECORD", "message_key,body_size")
    AioKafkaInstrumentor().instrument(skip_dep_check=True)
    consumer = AIOKafkaConsumer(
        unique,
        bootstrap_servers=kafka_bootstrap,
        auto_offset_reset="earliest",
        key_deserializer=bytes.decode,
        value_deserializer=lambda value: {"body": value},
    )
    await consumer.start()
    assert (await asyncio.wait_for(consumer.getone(), TIMEOUT_S)).value == {"body": b"12345"}
    await consumer.stop()
    [process] = await hops.processed()
    assert (process.attributes[KAFKA_MESSAGE_KEY], process.attributes[MESSAGING_BODY_SIZE]) == ("user-1", 5)
