"""Queues from which messages go in another order than they came, come in later than they were sent, stay, or which go themselves."""

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from rabbitmq_shop import Shop, shop
from scenario_support import until

__all__ = ["shop"]


async def take(url: str, queue: AbstractQueue, shop: Shop, *settles: str) -> list[str]:
    """Have a consumer that nobody instrumented take one message for each way to settle."""
    got = []
    with shop.stage.unseen():
        async with await aio_pika.connect(url) as connection:
            there = await (await connection.channel()).get_queue(queue.name)
            for settle in settles:
                message = await there.get(timeout=20)
                assert message is not None
                got.append(message.body.decode())
                await (message.nack(requeue=True) if settle == "requeue" else getattr(message, settle)())
    return got


@pytest.mark.scenario(70, "RabbitMQ: priorities, read by consumers that tell nothing")
async def test_priorities(shop: Shop, rabbitmq_url: str) -> None:
    """A later message of a higher priority was taken first: that the earlier one was is not claimed."""
    orders = await shop.queue("orders", x_max_priority=9)
    await shop.stage.observe()
    await shop.send("a", orders, priority=0)
    await shop.counted()
    await shop.send("b", orders, priority=9)
    assert await take(rabbitmq_url, orders, shop, "ack") == ["b"]
    pairs = [("a", orders.name), ("b", orders.name)]
    told = await shop.stage.judged(dict.fromkeys(pairs, "unknown"), broker=pairs, deadline_s=1.0)
    assert {one.cause for one in told.values()} == {"unknown.partly_settled"}


@pytest.mark.scenario(71, "RabbitMQ: a burst, half of it read by consumers that tell nothing")
async def test_half_of_a_burst(shop: Shop, rabbitmq_url: str) -> None:
    """Counters do not tell which of those that came between two looks were read."""
    orders = await shop.queue("orders")
    await shop.stage.observe()
    await shop.send("abcd", orders)
    assert await take(rabbitmq_url, orders, shop, "ack", "ack") == ["a", "b"]
    pairs = [(name, orders.name) for name in "abcd"]
    told = await shop.stage.judged(dict.fromkeys(pairs, "unknown"), broker=pairs, deadline_s=1.0)
    assert {one.cause for one in told.values()} == {"unknown.partly_settled"}


@pytest.mark.scenario(72, "RabbitMQ: given back by consumers that tell nothing")
async def test_given_back(shop: Shop, rabbitmq_url: str) -> None:
    """What waits may be what was given back, or what came last."""
    orders = await shop.queue("orders")
    await shop.stage.observe()
    await shop.send("a", orders)
    await shop.counted()
    await shop.send("b", orders)
    with shop.stage.unseen():
        async with await aio_pika.connect(rabbitmq_url) as connection:
            there = await (await connection.channel()).get_queue(orders.name)
            first, second = await there.get(), await there.get()
            await second.ack()
            await first.nack(requeue=True)
    pairs = [("a", orders.name), ("b", orders.name)]
    await shop.stage.judged(dict.fromkeys(pairs, "unknown"), broker=pairs, deadline_s=1.0)


async def read_stream(url: str, queue: AbstractQueue, offset: int, count: int) -> list[str]:
    """Have a consumer read so many messages of a stream from an offset on, and acknowledge them."""
    got: list[str] = []
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(10)
        there = await channel.get_queue(queue.name)

        async def handle(message: AbstractIncomingMessage) -> None:
            got.append(message.body.decode())
            await message.ack()

        tag = await there.consume(handle, arguments={"x-stream-offset": offset})
        await until(lambda: len(got) >= count, "all to be read")
        await there.cancel(tag)
    return got


@pytest.mark.scenario(
    73, "RabbitMQ: stream read by a consumer that tells nothing, and from an offset by one that tells"
)
async def test_streams(shop: Shop, rabbitmq_url: str) -> None:
    """What was not seen to be read from a stream is unknown, and never overdue."""
    log = await shop.queue("log", x_queue_type="stream")
    await shop.stage.observe()
    await shop.send("abcd", log)
    with shop.stage.unseen():
        assert await read_stream(rabbitmq_url, log, 0, 4) == ["a", "b", "c", "d"]
    pairs = [(name, log.name) for name in "abcd"]
    told = await shop.stage.judged(dict.fromkeys(pairs, "unknown"), broker=pairs, deadline_s=1.0)
    assert {one.cause for one in told.values()} == {"unknown.stream"}
    assert await read_stream(rabbitmq_url, log, 3, 1) == ["d"]
    await shop.stage.judged(dict.fromkeys(pairs, "unknown") | {("d", log.name): "settled"}, deadline_s=1.0)


@pytest.mark.scenario(74, "RabbitMQ: delayed by a queue whose messages expire into another")
async def test_delayed_by_a_time_to_live(shop: Shop) -> None:
    """What waits for its time in a queue that nobody reads waits on purpose, though its deadline is over."""
    work = await shop.queue("work")
    later = await shop.queue(
        "later", x_message_ttl=3_600_000, x_dead_letter_exchange="", x_dead_letter_routing_key=work.name
    )
    await shop.stage.observe()
    await shop.send("a", later)
    told = await shop.stage.judged({("a", later.name): "waiting"}, broker=[("a", later.name)], deadline_s=0.5)
    assert told["a", later.name].cause == "waiting.delayed"


@pytest.mark.scenario(75, "RabbitMQ: exclusive queue that went with its connection")
async def test_exclusive_queue(shop: Shop, rabbitmq_url: str) -> None:
    """A queue that lasts only while somebody is connected loses nothing when it goes: it is told that it left."""
    hub = await shop.exchange("hub", "fanout")
    connection = await aio_pika.connect(rabbitmq_url)
    with shop.stage.unseen():
        brief = await (await connection.channel()).declare_queue(shop.name("brief"), exclusive=True)
        await brief.bind(hub)
    await shop.stage.observe()
    await shop.send("a", hub)
    await shop.stage.judged({("a", brief.name): "waiting"}, broker=[("a", brief.name)])
    await connection.close()
    told = await shop.stage.judged({("a", brief.name): "no_receiver"}, broker=[("a", brief.name)])
    assert told["a", brief.name].cause == "no_receiver.left"


@pytest.mark.scenario(
    76, "RabbitMQ: quorum queue with a limit of deliveries, given back by consumers that tell nothing"
)
async def test_delivery_limit(shop: Shop, rabbitmq_url: str) -> None:
    """What the queue dropped after too many deliveries is not claimed to have been settled."""
    orders = await shop.queue("orders", x_queue_type="quorum", x_delivery_limit=1)
    await shop.stage.observe()
    await shop.send("a", orders)
    assert await take(rabbitmq_url, orders, shop, "requeue", "requeue") == ["a", "a"]
    await shop.stage.judged({("a", orders.name): "unknown"}, broker=[("a", orders.name)], deadline_s=1.0)
