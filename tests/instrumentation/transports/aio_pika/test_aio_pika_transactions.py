"""What a publish comes to where its own answer does not say: transactions, returns without confirms, time limits."""

import asyncio
from typing import Any

import aio_pika
import pytest
from transport_support import outcomes, publish

from hopwatch.conventions import (
    DESTINATION,
    MESSAGE_ID,
    PUBLISH_OUTCOME,
    REASON,
    SETTLE_OUTCOME,
)


async def test_a_committed_transaction_confirms_and_settles(connection: Any, unique: str, hops: Any) -> None:
    """Publishes and acknowledgements count with the commit, not before."""
    plain = await connection.channel()
    queue = await plain.declare_queue(unique, exclusive=True)
    await publish(plain, unique, b"in")
    channel = await connection.channel(publisher_confirms=False)
    inside = await channel.get_queue(unique)
    async with channel.transaction():
        message = await inside.get()
        await publish(channel, unique, b"out")
        await message.ack()
        assert (outcomes(hops), hops.processes(), hops.settles()) == (["confirmed"], [], [])
    assert outcomes(hops) == ["confirmed", "confirmed"]
    [process] = await hops.processed()
    assert process.attributes[SETTLE_OUTCOME] == "ack"
    assert (await queue.get(no_ack=True)).body == b"out"


async def test_a_transaction_rolled_back_refuses_and_settles_nothing(
    connection: Any, unique: str, hops: Any
) -> None:
    """Its publishes reach nobody, and its acknowledgement never happened: the message comes again."""
    plain = await connection.channel()
    await plain.declare_queue(unique, auto_delete=False)
    await publish(plain, unique, b"in")
    channel = await connection.channel(publisher_confirms=False)
    inside = await channel.get_queue(unique)

    async def fail() -> None:
        async with channel.transaction():
            message = await inside.get()
            await publish(channel, unique, b"never")
            await message.ack()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await fail()
    await channel.close()
    lost = hops.sends()[1]
    assert (lost.attributes[PUBLISH_OUTCOME], lost.attributes[REASON]) == (
        "refused",
        "the transaction was rolled back",
    )
    again = await (await plain.get_queue(unique)).get()
    assert (again.body, again.redelivered) == (b"in", True)
    await again.ack()
    await plain.queue_delete(unique)
    settled = [span.attributes[SETTLE_OUTCOME] for span in await hops.processed(2)]
    assert (sorted(settled), hops.settles()) == (["ack", "none"], [])


async def test_a_transaction_goes_on_after_its_commit(connection: Any, unique: str, hops: Any) -> None:
    """A channel stays in transaction mode; what is not committed when it closes is refused."""
    channel = await connection.channel(publisher_confirms=False)
    await channel.declare_queue(unique, exclusive=True)
    transaction = channel.transaction()
    await transaction.select()
    await publish(channel, unique)
    await transaction.commit()
    await publish(channel, unique)
    assert outcomes(hops) == ["confirmed"]
    await channel.close()
    await hops.until(lambda: len(hops.sends()) == 2)
    assert outcomes(hops) == ["confirmed", "refused"]


async def test_an_unroutable_message_of_a_transaction_is_returned(
    connection: Any, unique: str, hops: Any
) -> None:
    """The broker returns it with the commit."""
    channel = await connection.channel(publisher_confirms=False)
    async with channel.transaction():
        await publish(channel, unique)
    assert outcomes(hops) == ["returned"]


async def test_without_confirms_a_returned_message_is_told_afterwards(
    connection: Any, unique: str, hops: Any
) -> None:
    """The publish is over by then; a second span of the same message says what became of it."""
    channel = await connection.channel(publisher_confirms=False)
    await publish(channel, unique)
    await hops.until(lambda: len(hops.sends()) == 2)
    sent, back = hops.sends()
    assert outcomes(hops) == ["sent", "returned"]
    assert (back.attributes[MESSAGE_ID], back.attributes[DESTINATION]) == (
        sent.attributes[MESSAGE_ID],
        unique,
    )
    assert back.attributes[REASON] == "312 NO_ROUTE"
    assert back.parent.span_id == sent.context.span_id


async def test_not_mandatory_means_the_broker_confirms_what_it_drops(
    channel: Any, unique: str, hops: Any
) -> None:
    """It took the message, and that is all it says."""
    message = aio_pika.Message(b"1")
    await channel.default_exchange.publish(message, unique, mandatory=False)
    assert outcomes(hops) == ["confirmed"]


async def test_a_publish_that_times_out_is_unconfirmed(channel: Any, unique: str, hops: Any) -> None:
    """Whether the broker has it, nobody knows."""
    await channel.declare_queue(unique, exclusive=True)
    message = aio_pika.Message(bytes(20_000_000))
    with pytest.raises(asyncio.TimeoutError):
        await channel.default_exchange.publish(message, unique, timeout=0.001)
    assert outcomes(hops) == ["unconfirmed"]
