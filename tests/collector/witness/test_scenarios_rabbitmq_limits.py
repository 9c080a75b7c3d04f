"""Queues that drop messages, or hand them to consumers that tell nothing, and what can be said of them then."""

import aio_pika
import pytest
from rabbitmq_shop import Shop, shop

__all__ = ["shop"]


@pytest.mark.scenario(15, "RabbitMQ: rejected, and the dead-letter exchange leads nowhere")
async def test_rejected_into_nothing(shop: Shop) -> None:
    """A dead-letter exchange without a queue behind it saves nothing, and the ledger does not claim it did."""
    nowhere = await shop.exchange("nowhere", "topic")
    orders = await shop.queue("orders", x_dead_letter_exchange=nowhere.name)
    await shop.send("a", orders)
    assert await shop.read(orders, 1, lambda message: message.reject()) == ["a"]
    await shop.stage.judged({("a", orders.name): "failed"})


@pytest.mark.scenario(16, "RabbitMQ: time to live over, into a dead-letter queue")
async def test_expired_into_dead_letters(shop: Shop) -> None:
    """What expires in a queue with a dead-letter queue is dead-lettered."""
    dead = await shop.queue("dead")
    brief = await shop.queue(
        "brief", x_message_ttl=200, x_dead_letter_exchange="", x_dead_letter_routing_key=dead.name
    )
    await shop.send("a", brief)
    told = await shop.stage.judged({("a", brief.name): "dead_lettered"}, broker=[("a", brief.name)])
    assert "time to live" in told["a", brief.name].reason


@pytest.mark.scenario(17, "RabbitMQ: queue too long, the rest waiting")
async def test_overflow_with_the_rest_waiting(shop: Shop) -> None:
    """What a queue drops for being too long is evicted, the oldest first; the others wait."""
    short = await shop.queue("short", x_max_length=2)
    await shop.send("ab", short)
    await shop.stage.judged({("a", short.name): "waiting", ("b", short.name): "waiting"})
    await shop.counted()
    await shop.send("cd", short)
    expected = {"a": "evicted", "b": "evicted", "c": "waiting", "d": "waiting"}
    told = await shop.stage.judged({(name, short.name): verdict for name, verdict in expected.items()})
    assert told["a", short.name].reason == "the queue was too long: the broker dropped it"


@pytest.mark.scenario(23, "RabbitMQ: consumer dies, redelivered")
async def test_consumer_dies(shop: Shop, rabbitmq_url: str) -> None:
    """What a consumer had in hand when it died waits again, and is settled by the next one."""
    orders = await shop.queue("orders")
    await shop.send("a", orders)
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        message = await (await channel.get_queue(orders.name)).get()
        assert message.body == b"a"
    told = await shop.stage.judged({("a", orders.name): "waiting"}, broker=[("a", orders.name)])
    assert told["a", orders.name].reason.startswith("its consumer went away")
    assert await shop.read(orders, 1) == ["a"]
    told = await shop.stage.judged({("a", orders.name): "settled"})
    assert told["a", orders.name].attempts == 2


@pytest.mark.scenario(14, "RabbitMQ: read by consumers that tell nothing")
async def test_read_unseen(shop: Shop, rabbitmq_url: str) -> None:
    """What consumers that nobody instrumented acknowledged is settled on the broker's word."""
    orders = await shop.queue("orders")
    await shop.send("a", orders)
    with shop.stage.unseen():
        async with await aio_pika.connect(rabbitmq_url) as connection:
            channel = await connection.channel()
            message = await (await channel.get_queue(orders.name)).get()
            await message.ack()
    told = await shop.stage.judged({("a", orders.name): "settled"}, broker=[("a", orders.name)])
    assert told["a", orders.name].reason == "the broker counts it as done; who processed it was not seen"


@pytest.mark.scenario(25, "RabbitMQ: queue deleted and declared anew")
async def test_declared_anew(shop: Shop) -> None:
    """What was in a queue when it was deleted is lost, though one of that name is there again."""
    orders = await shop.queue("orders")
    await shop.send("a", orders)
    await shop.stage.judged({("a", orders.name): "waiting"})
    await shop.counted()
    await orders.delete(if_empty=False)
    await shop.stage.judged({("a", orders.name): "lost"})
    orders = await shop.queue("orders")
    await shop.send("b", orders)
    told = await shop.stage.judged({("a", orders.name): "lost", ("b", orders.name): "waiting"})
    assert told["a", orders.name].reason == "the receiver was deleted before it had read it"
