"""Messages with a time of their own, and queues that dead letters come to, which RabbitMQ counts nowhere.

Several cases run side by side in one test, because counters take seconds to come to rest.
"""

import aio_pika
import pytest
from aio_pika.abc import AbstractQueue
from rabbitmq_shop import Shop, shop

from hopwatch_demo.patience import scale_wait

__all__ = ["shop"]


@pytest.mark.scenario(16, "RabbitMQ: a message's own time to live over")
async def test_own_expiration(shop: Shop) -> None:
    """A message that its sender let expire has expired, or is dead-lettered where there is a queue for it; others wait."""
    dead, plain = await shop.queue("dead"), await shop.queue("plain")
    saving = await shop.queue("saving", x_dead_letter_exchange="", x_dead_letter_routing_key=dead.name)
    await shop.send("a", plain, expiration=0.2)
    await shop.send("b", saving, expiration=0.2)
    over = {("a", plain.name): "expired", ("b", saving.name): "dead_lettered"}
    told = await shop.stage.judged(over, broker=list(over))
    assert told["a", plain.name].reason == "its time to live ended before anyone read it"
    assert (
        told["b", saving.name].reason
        == "its time to live ended in the queue, which has a dead-letter exchange"
    )
    assert await shop.read(dead, 1) == ["b"]
    await shop.send("c", plain)
    await shop.send("d", plain, expiration=600)
    waits = {("c", plain.name): "waiting", ("d", plain.name): "waiting"}
    told = await shop.stage.judged({**over, ("b", dead.name): "settled", **waits}, broker=list(waits))
    assert told["b", saving.name].reason == "dead-lettered: expired"


async def mixed(shop: Shop, name: str, letters: str, **limits: object) -> tuple[AbstractQueue, AbstractQueue]:
    """A queue with one message that was sent to it, and behind it one that another queue's consumer rejected."""
    dead = await shop.queue(f"{name}-dead", **limits)
    orders = await shop.queue(name, x_dead_letter_exchange="", x_dead_letter_routing_key=dead.name)
    await shop.stage.observe()
    await shop.send(letters[0], dead)
    await shop.send(letters[1], orders)
    assert await shop.read(orders, 1, lambda message: message.reject()) == [letters[1]]
    return dead, orders


@pytest.mark.scenario(
    15, "RabbitMQ: sent to a dead-letter queue that is partly consumed, purged, or too long"
)
async def test_sent_to_dead_letter_queues(shop: Shop, rabbitmq_url: str) -> None:
    """What counters cannot tell of a queue with dead letters nobody claims to know; what they can, is still said."""
    eaten, eaten_from = await mixed(shop, "eaten", "ab")
    purged, purged_from = await mixed(shop, "purged", "cd")
    short, short_from = await mixed(shop, "short", "ef", x_max_length=1)
    calm, calm_from = await mixed(shop, "calm", "gh")
    with shop.stage.unseen():
        async with await aio_pika.connect(rabbitmq_url) as connection:
            queue = await (await connection.channel()).get_queue(eaten.name)
            message = await queue.get(timeout=scale_wait(20))
            assert message.body == b"a"
            await message.ack()
    await eaten.purge()
    await purged.purge()
    await shop.counted()
    rejected = {("b", eaten_from), ("d", purged_from), ("f", short_from), ("h", calm_from)}
    expected = {
        ("a", eaten.name): "unknown",  # in truth settled; `b` was purged
        ("c", purged.name): "lost",
        ("e", short.name): "unknown",  # in truth evicted, pushed out by `f`
        ("g", calm.name): "waiting",
        **{(name, queue.name): "dead_lettered" for name, queue in rejected},
    }
    broker = [("a", eaten.name), ("c", purged.name), ("e", short.name), ("g", calm.name)]
    told = await shop.stage.judged(expected, broker=broker)
    for name, queue in (("a", eaten), ("e", short)):
        assert told[name, queue.name].reason.startswith("this queue also receives dead-lettered messages")
    assert await shop.read(short, 1) == ["f"]
