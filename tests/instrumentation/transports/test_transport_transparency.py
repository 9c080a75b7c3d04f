"""What an application sees of a library is the same with and without us: results, exceptions, signatures, headers."""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aio_pika
import nats
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from transport_support import TIMEOUT_S

from hopwatch.transports.aio_pika import AioPikaInstrumentor
from hopwatch.transports.aiokafka import AioKafkaInstrumentor
from hopwatch.transports.nats import NatsInstrumentor
from hopwatch.wrapping import stale_fields
from hopwatch_demo.patience import scale_wait

INSTRUMENTORS = [AioPikaInstrumentor, AioKafkaInstrumentor, NatsInstrumentor]

Usage = Callable[[str, str], Awaitable[list[Any]]]


async def seen(doing: Any) -> tuple[str, Any]:
    """Return what came of something: the type of its result and what that says, or its exception."""
    try:
        result = await asyncio.wait_for(doing, TIMEOUT_S) if inspect.isawaitable(doing) else doing
    except BaseException as error:  # noqa: BLE001 — whatever the application would see
        return type(error).__name__, str(error).split(",")[0]  # after a comma comes what differs by nature
    return type(result).__name__, result if isinstance(result, str | bytes | int | bool | None) else None


def calling(function: Callable[[], Any]) -> tuple[str, Any]:
    """Return what came of a plain call."""
    try:
        return type(function()).__name__, None
    except Exception as error:  # noqa: BLE001 — whatever the application would see
        return type(error).__name__, str(error)


def own(headers: Any) -> list[tuple[str, Any]]:
    """Return the headers that are the application's."""
    pairs = headers.items() if hasattr(headers, "items") else headers or ()
    return [(name, value) for name, value in pairs if name not in stale_fields()]


async def use_nats(url: str, name: str) -> list[Any]:
    """Use core NATS and JetStream, and write down all that is seen."""
    told: list[Any] = []
    errors: list[Exception] = []

    async def note(error: Exception) -> None:
        errors.append(error)

    async def answer(prefix: bytes, message: Any) -> None:
        await message.respond(prefix + message.data)

    async def fail(message: Any) -> None:
        raise ValueError(f"broken by {message.data!r}")

    client = await nats.connect(url, error_cb=note, connect_timeout=scale_wait(20))
    told.append(await seen(client.subscribe(name, cb=lambda message: None)))
    answering = await client.subscribe(f"{name}.ask", cb=partial(answer, b"re: "))
    told += [type(answering).__name__, answering.subject, answering.queue]
    headers = {"mine": "kept"}
    reply = await client.request(f"{name}.ask", b"1", TIMEOUT_S, headers=headers)
    told += [reply.data, own(reply.headers), headers]
    told.append((await client.request(f"{name}.ask", b"1", TIMEOUT_S, old_style=True)).data)
    told += [await seen(client.request(f"{name}.nobody")), await seen(client.request("bad subject"))]
    failing = await client.subscribe(f"{name}.fail", cb=fail)
    told.append(await seen(client.publish(f"{name}.fail", b"1")))
    await client.flush()
    while not errors:
        await asyncio.sleep(0.01)
    told += [[f"{type(error).__name__}: {error}" for error in errors], await seen(failing.drain())]
    plain = await client.subscribe(f"{name}.plain")
    told.append(await seen(plain.next_msg(timeout=0.05)))
    await client.publish(f"{name}.plain", b"2", headers=headers)
    message = await plain.next_msg(timeout=TIMEOUT_S)
    told += [message.data, own(message.headers), await seen(message.ack()), await seen(message.respond(b""))]
    taking = asyncio.create_task(plain.next_msg(timeout=TIMEOUT_S))
    await asyncio.sleep(0)  # lets it begin
    taking.cancel()
    told += [await seen(taking), await seen(plain.unsubscribe()), await seen(plain.unsubscribe())]

    js = client.jetstream(timeout=scale_wait(10))
    await js.add_stream(name=name, subjects=[f"{name}.js.>"])
    once = {"Nats-Msg-Id": "once"}
    acks = [await js.publish(f"{name}.js.x", b"3", headers=once) for _ in range(2)]
    told += [[(ack.stream, ack.seq, ack.duplicate) for ack in acks], once]
    later = await js.publish_async(f"{name}.js.x", b"4")
    told += [isinstance(later, asyncio.Future), (await later).seq, js.publish_async_pending()]
    told += [
        await seen(js.publish("nowhere.js", b"")),
        await seen(js.publish(f"{name}.js.x", stream="other")),
    ]
    pull = await js.pull_subscribe(f"{name}.js.>", durable="d")
    one, two = messages = await pull.fetch(2, timeout=TIMEOUT_S)
    told += [len(messages), messages == [one, two], [m.metadata.num_pending for m in messages]]
    told += [await seen(one.in_progress()), await seen(one.ack()), await seen(one.ack()), one.is_acked]
    told += [await seen(two.nak()), await seen(pull.fetch(0)), await seen(pull.fetch(1, timeout=-1))]
    [again] = await pull.fetch(1, timeout=TIMEOUT_S)
    told += [again.metadata.num_delivered, await seen(again.term()), await seen(pull.fetch(1, timeout=0.05))]
    await js.delete_stream(name)
    told += [await seen(client.close()), await seen(client.publish(name, b""))]
    return told


async def use_rabbitmq(url: str, name: str) -> list[Any]:
    """Use exchanges, queues and messages in every form, and write down all that is seen."""
    told: list[Any] = []
    connection = await aio_pika.connect_robust(url)
    channel = await connection.channel()
    exchange = await channel.declare_exchange(name, "topic", auto_delete=True)
    queue = await channel.declare_queue(name, auto_delete=False)
    told += [
        await seen(queue.bind(exchange, "a.*")),
        await seen(queue.get()),
        await seen(queue.get(fail=False)),
    ]
    message = aio_pika.Message(b"1", headers={"mine": "kept"}, correlation_id="c")
    for key in ("a.b", "b"):
        told.append(await seen(exchange.publish(message, key)))
        told.append(await seen(exchange.publish(message, key, mandatory=False)))
    told += [message.message_id, message.headers, message.locked]
    first, second = await queue.get(), await queue.get()
    told += [first.body, own(first.headers), first.correlation_id, first.redelivered, first.routing_key]
    told += [await seen(first.ack()), await seen(first.ack()), first.processed, type(first).__name__]
    told += [await seen(second.nack(requeue=True)), sorted(second.info()), repr(second)[:16]]
    again = await queue.get(no_ack=True)
    told += [again.redelivered, await seen(again.ack()), again.locked]

    got: list[bytes] = []
    done = asyncio.Event()

    async def take(prefix: bytes, message: Any) -> None:
        async with message.process(ignore_processed=True):
            got.append(prefix + message.body)
            if len(got) == 2:
                done.set()

    tag = await queue.consume(partial(take, b"got "), consumer_tag=f"{name}-tag")
    for body in (b"2", b"3"):
        await exchange.publish(aio_pika.Message(body), "a.b")
    await asyncio.wait_for(done.wait(), TIMEOUT_S)
    told += [
        tag,
        sorted(got),
        await seen(queue.cancel(tag)),
        await seen(queue.consume(partial(take, b""), consumer_tag="again")),
    ]
    await channel.close()
    told.append(await seen(exchange.publish(message, "a.b")))

    channel = await connection.channel(publisher_confirms=False)
    queue = await channel.get_queue(name)
    told.append(await seen(channel.default_exchange.publish(aio_pika.Message(b"4"), name)))
    iterated: list[Any] = []
    async with queue.iterator(timeout=scale_wait(1.0)) as messages:
        try:
            async for message in messages:
                async with message.process():
                    iterated.append(message.body)
        except TimeoutError as error:
            iterated.append(type(error).__name__)
    told += [iterated, await seen(messages.__anext__())]
    transaction = channel.transaction()
    told += [await seen(transaction.select()), str(transaction.state), await seen(transaction.rollback())]
    told += [await seen(queue.delete(if_unused=False)), await seen(connection.close())]
    return told


async def use_kafka(bootstrap: str, name: str) -> list[Any]:
    """Use producers and consumers in every form, and write down all that is seen."""
    told: list[Any] = []
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, value_serializer=lambda value: None if value is None else value.encode()
    )
    told.append(await seen(producer.start()))
    told += [await seen(producer.send(name)), await seen(producer.send(name, b"not text"))]
    headers = [("mine", b"1"), ("mine", b"2")]
    future = await producer.send(name, "1", key=b"k", headers=headers)
    metadata = await future
    told += [
        isinstance(future, asyncio.Future),
        type(metadata).__name__,
        metadata.topic,
        metadata.offset,
        headers,
    ]
    told.append((await producer.send_and_wait(name, None, b"k", 0, 1_700_000_000_000, headers))._asdict())
    batch = producer.create_batch()
    told += [str(inspect.signature(batch.append)), batch.append(timestamp=5, key=None, value="2").offset]
    told += [calling(lambda: batch.append(key=None, value="2")), batch.record_count(), batch.closed()]
    told += [type(await producer.send_batch(batch, name, partition=0)).__name__, await seen(producer.flush())]
    told += [
        await seen(producer.begin_transaction()),
        await seen(producer.stop()),
        await seen(producer.stop()),
    ]

    consumer = AIOKafkaConsumer(
        name,
        bootstrap_servers=bootstrap,
        group_id=name,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    told.append(calling(lambda: consumer.seek(TopicPartition(name, 0), -1)))
    record = await consumer.getone()
    told += [record.value, record.key, own(record.headers), record.offset, type(record).__name__]
    got = await consumer.getmany(timeout_ms=int(scale_wait(20_000)))
    [records] = got.values()
    told += [
        type(got).__name__,
        [tuple(partition) for partition in got],
        isinstance(records, list),
        len(records),
    ]
    told += [
        [(r.value, r.timestamp) for r in records][:1],
        records == list(records),
        records[:1] == [records[0]],
    ]
    partition = TopicPartition(name, 0)
    told += [
        await seen(consumer.commit()),
        await seen(consumer.commit({partition: 1})),
        await seen(consumer.committed(partition)),
    ]
    told += [
        await seen(consumer.commit({TopicPartition(name, 9): 1})),
        await seen(consumer.seek_to_end()),
        await seen(consumer.position(partition)),
    ]
    told += [calling(lambda: consumer.seek(partition, 0)), await seen(consumer.getmany(max_records=0))]
    looped = []
    async for record in consumer:
        looped.append(record.offset)
        if len(looped) == 2:
            break
    taking = asyncio.create_task(consumer.getmany(timeout_ms=60_000))
    await asyncio.sleep(0)  # lets it begin
    taking.cancel()
    told += [looped, await seen(consumer.stop()), await seen(consumer.getone()), await seen(consumer.stop())]
    told.append([record.offset async for record in consumer] if not consumer._closed else "closed")
    return told


def plain(told: list[Any]) -> str:
    """Return what was told without names of the one usage and addresses in memory."""
    return re.sub(r"-(one|two)| at 0x[0-9a-f]+", "", str(told))


async def compare(
    usage: Usage, instrumentor: type[BaseInstrumentor], url: str, unique: str, hops: Any
) -> None:
    """Use a library twice, without us and with us, and compare what was seen."""
    without = await usage(url, f"{unique}-one")
    assert hops.all() == ()
    instrumentor().instrument(skip_dep_check=True)
    try:
        with_us = await usage(url, f"{unique}-two")
    finally:
        instrumentor().uninstrument()
    assert hops.sends()
    assert hops.processes()
    assert plain(with_us) == plain(without)
    assert len(without) > 20


async def test_nats_py_looks_the_same(nats_url: str, unique: str, hops: Any) -> None:
    """Core and JetStream."""
    await compare(use_nats, NatsInstrumentor, nats_url, unique, hops)


async def test_aio_pika_looks_the_same(rabbitmq_url: str, unique: str, hops: Any) -> None:
    """Exchanges, queues, messages, transactions."""
    await compare(use_rabbitmq, AioPikaInstrumentor, rabbitmq_url, unique, hops)


async def test_aiokafka_looks_the_same(kafka_bootstrap: str, unique: str, hops: Any) -> None:
    """Producers, batches, consumers."""
    await compare(use_kafka, AioKafkaInstrumentor, kafka_bootstrap, unique, hops)


@pytest.mark.parametrize("instrumentor", INSTRUMENTORS)
def test_what_is_wrapped_looks_like_the_original(instrumentor: type[BaseInstrumentor]) -> None:
    """Names, documentation, signatures and being a coroutine function; put back, it is the original itself."""
    wrapping = instrumentor()
    wrapping.instrument(skip_dep_check=True)
    patched = list(wrapping._patches._wrapped)
    try:
        for owner, name, original, _ in patched:
            wrapped = getattr(owner, name)
            assert inspect.iscoroutinefunction(wrapped) == inspect.iscoroutinefunction(original)
            assert inspect.signature(wrapped) == inspect.signature(original)
            for attribute in ("__name__", "__qualname__", "__module__"):
                if attribute != "__module__" or inspect.isfunction(original):
                    assert getattr(wrapped, attribute) == getattr(original, attribute)
    finally:
        wrapping.uninstrument()
    assert len(patched) > 10
    assert all(vars(owner)[name] is original for owner, name, original, _ in patched)
