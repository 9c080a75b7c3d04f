"""What is particular to AMQP: true publish outcomes, settlement in every form, dead letters, bindings."""

import asyncio
from datetime import timedelta
from typing import Any

import aio_pika
import aiormq
import pytest
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelClosed, DeliveryError
from aiormq.exceptions import PublishError
from opentelemetry.trace import StatusCode
from transport_support import TIMEOUT_S, outcomes, publish

from hopwatch.conventions import (
    ALIAS,
    ATTEMPT,
    DEAD_LETTER_REASON,
    DEAD_LETTER_RECEIVER,
    DESTINATION,
    MESSAGE_ID,
    MESSAGE_ID_HEADER,
    MESSAGING_CONVERSATION_ID,
    MESSAGING_DESTINATION_NAME,
    PUBLISH_OUTCOME,
    REASON,
    RECEIVER,
    SETTLE_OUTCOME,
    SUBSCRIPTION_PATTERN,
    TTL,
)


async def test_an_unroutable_message_is_returned(channel: Any, unique: str, hops: Any) -> None:
    """aio-pika gives it back as the result of `publish`; that is no success."""
    result = await publish(channel, unique)
    assert isinstance(result.delivery, aiormq.spec.Basic.Return)
    [send] = hops.sends()
    assert (send.attributes[PUBLISH_OUTCOME], send.attributes[REASON]) == ("returned", "312 NO_ROUTE")
    assert send.attributes[DESTINATION] == unique
    assert send.status.status_code is StatusCode.ERROR


async def test_a_message_to_be_delivered_later_says_when(channel: Any, unique: str, hops: Any) -> None:
    """An exchange that delays has nowhere to route it to until then; what the broker answers stands behind."""
    queue = await channel.declare_queue(f"{unique}.there", auto_delete=True)
    exchange = await channel.declare_exchange(unique, "direct", auto_delete=True)
    await queue.bind(exchange, "there")
    for key, delay in (("there", "1500"), ("nowhere", 1500)):
        await exchange.publish(aio_pika.Message(b"1", headers={"x-delay": delay}), key)
    assert [send.attributes[REASON] for send in hops.sends()] == [
        "not before 1.500 s", "not before 1.500 s: 312 NO_ROUTE",
    ]  # fmt: skip


@pytest.mark.parametrize("delay", [0, -1500, "soon", None, [1500]])
async def test_what_is_no_delay_says_nothing(channel: Any, unique: str, hops: Any, delay: Any) -> None:
    """A message that was delayed carries its delay, negated, when it is sent on."""
    queue = await channel.declare_queue(unique, auto_delete=True)
    message = aio_pika.Message(b"1", headers={"x-delay": delay})
    await channel.default_exchange.publish(message, queue.name)
    [send] = hops.sends()
    assert REASON not in send.attributes


async def test_an_unroutable_message_that_raises_is_returned(connection: Any, unique: str, hops: Any) -> None:
    """With `on_return_raises` the exception is the library's, the outcome the same."""
    channel = await connection.channel(on_return_raises=True)
    with pytest.raises(PublishError):
        await publish(channel, unique)
    assert outcomes(hops) == ["returned"]


async def test_a_publish_to_no_exchange_is_returned(channel: Any, unique: str, hops: Any) -> None:
    """An exchange that does not exist is nowhere to route to."""
    exchange = await channel.get_exchange(unique, ensure=False)
    with pytest.raises(ChannelClosed):
        await asyncio.wait_for(exchange.publish(aio_pika.Message(b"1"), "key"), TIMEOUT_S)
    assert outcomes(hops) == ["returned"]


async def test_a_nack_is_a_refusal(channel: Any, unique: str, hops: Any) -> None:
    """A full queue that rejects publishes answers Basic.Nack."""
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    await channel.declare_queue(unique, exclusive=True, arguments=full)
    await publish(channel, unique)
    with pytest.raises(DeliveryError):
        await publish(channel, unique)
    assert outcomes(hops) == ["confirmed", "refused"]


async def test_without_confirms_a_message_is_only_sent(connection: Any, unique: str, hops: Any) -> None:
    """Nobody answers, so nobody knows."""
    channel = await connection.channel(publisher_confirms=False)
    await publish(channel, unique)
    assert outcomes(hops) == ["sent"]


async def test_a_message_without_an_answer_is_unconfirmed(channel: Any, unique: str, hops: Any) -> None:
    """A publish cancelled before its confirmation may have arrived or not."""
    await channel.declare_queue(unique, exclusive=True)
    sending = asyncio.create_task(publish(channel, unique))
    await asyncio.sleep(0)  # lets it begin
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert outcomes(hops) == ["unconfirmed"]


async def test_each_publish_of_a_message_has_its_own_id(channel: Any, unique: str, hops: Any) -> None:
    """The caller's message stays as it was; what travels is a copy with the id of this publish."""
    queue = await channel.declare_queue(unique, exclusive=True)
    message = aio_pika.Message(b"1", headers={"mine": "kept"})
    for _ in range(2):
        await channel.default_exchange.publish(message, unique)
    one, two = await queue.get(no_ack=True), await queue.get(no_ack=True)
    assert (message.message_id, message.headers) == (None, {"mine": "kept"})
    assert one.message_id == one.headers[MESSAGE_ID_HEADER] == hops.sends()[0].attributes[MESSAGE_ID]
    assert two.message_id == two.headers[MESSAGE_ID_HEADER] == hops.sends()[1].attributes[MESSAGE_ID]
    assert one.message_id != two.message_id


async def test_an_applications_own_id_is_kept_as_an_alias(channel: Any, unique: str, hops: Any) -> None:
    """Its message_id arrives unchanged, and both sides can be found by it."""
    queue = await channel.declare_queue(unique, exclusive=True)
    await publish(channel, unique, message_id="order-7", correlation_id="c-1")
    got = await queue.get()
    await got.ack()
    [send], [process] = hops.sends(), await hops.processed()
    assert got.message_id == "order-7"
    assert send.attributes[ALIAS] == process.attributes[ALIAS] == ("order-7",)
    assert (
        send.attributes[MESSAGING_CONVERSATION_ID] == process.attributes[MESSAGING_CONVERSATION_ID] == "c-1"
    )


@pytest.mark.parametrize("expiration", [1.5, timedelta(seconds=1.5)])
async def test_how_long_a_message_lives_is_noted(
    channel: Any, unique: str, hops: Any, expiration: object
) -> None:
    """A message's own expiration is noted as the broker gets it, and nothing where there is none."""
    queue = await channel.declare_queue(unique, exclusive=True)
    await publish(channel, unique, expiration=expiration)
    await publish(channel, unique)
    assert (await queue.get(no_ack=True)).expiration == 1.5
    assert [send.attributes.get(TTL) for send in hops.sends()] == [1500, None]


async def test_an_expiration_that_cannot_be_sent_stays_the_callers_error(
    channel: Any, unique: str, hops: Any
) -> None:
    """What aio-pika refuses is raised by aio-pika, and recorded as refused."""
    with pytest.raises(ValueError, match="Invalid timestamp type"):
        await publish(channel, unique, expiration="soon")
    assert outcomes(hops) == ["refused"]


async def test_a_message_passed_on_as_it_came_is_a_new_one(channel: Any, unique: str, hops: Any) -> None:
    """An id that our first hop gave is not the application's own."""
    queue = await channel.declare_queue(unique, exclusive=True)
    onward = await channel.declare_queue(f"{unique}-onward", exclusive=True)
    await publish(channel, unique)
    got = await queue.get()
    await channel.default_exchange.publish(got, onward.name)
    await got.ack()
    second = await onward.get(no_ack=True)
    one, two = hops.sends()
    assert second.message_id == second.headers[MESSAGE_ID_HEADER] == two.attributes[MESSAGE_ID]
    assert two.attributes[MESSAGE_ID] != one.attributes[MESSAGE_ID]
    assert ALIAS not in two.attributes
    assert got.message_id == one.attributes[MESSAGE_ID]


async def test_an_iterator_gives_the_flow_to_the_loop(channel: Any, unique: str, hops: Any) -> None:
    """What the body sends belongs to the message at hand, also after its ack; the name says queue and key."""
    exchange = await channel.declare_exchange(f"{unique}-x", "topic", auto_delete=True)
    queue = await channel.declare_queue(unique, exclusive=True)
    await queue.bind(exchange, "order.*")
    for body in (b"1", b"2"):
        await exchange.publish(aio_pika.Message(body), "order.new")
    async with asyncio.timeout(TIMEOUT_S), queue.iterator() as messages:
        async for message in messages:
            await message.ack()
            await publish(channel, "amq.nowhere", message.body)
            if message.body == b"2":
                break
    first, second = await hops.processed(2)
    out = [send for send in hops.sends() if send.attributes[DESTINATION] == "amq.nowhere"]
    assert [send.parent.span_id for send in out] == [first.context.span_id, second.context.span_id]
    assert first.attributes[SETTLE_OUTCOME] == second.attributes[SETTLE_OUTCOME] == "ack"
    assert first.attributes[DESTINATION] == f"{unique}-x:order.new"
    assert first.attributes[MESSAGING_DESTINATION_NAME] == f"{unique}-x:order.new:{unique}"


async def test_an_error_inside_process_is_seen_in_a_loop(channel: Any, unique: str, hops: Any) -> None:
    """The exception that leaves `message.process()` is on the attempt, though the loop catches it."""
    queue = await channel.declare_queue(unique, exclusive=True)
    await publish(channel, unique)
    async with asyncio.timeout(TIMEOUT_S), queue.iterator() as messages:
        async for message in messages:
            with pytest.raises(ValueError, match="broken"):
                async with message.process():
                    raise ValueError("broken")
            break
    [process] = await hops.processed()
    assert process.status.status_code is StatusCode.ERROR
    assert process.attributes[SETTLE_OUTCOME] == "reject"


async def test_an_error_that_leaves_the_iterator_is_seen(channel: Any, unique: str, hops: Any) -> None:
    """`async with queue.iterator()` shows the exception that ends its loop; the message goes back unsettled."""
    queue = await channel.declare_queue(unique, exclusive=True)
    await publish(channel, unique)

    async def consume() -> None:
        async with asyncio.timeout(TIMEOUT_S), queue.iterator() as messages:
            async for _ in messages:
                raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await consume()
    [process] = await hops.processed()
    assert process.status.status_code is StatusCode.ERROR
    assert process.attributes[SETTLE_OUTCOME] == "none"


@pytest.mark.parametrize(("requeue", "outcome"), [(True, "requeue"), (False, "reject")])
async def test_nack_and_reject_say_whether_the_message_goes_back(
    channel: Any, unique: str, hops: Any, requeue: bool, outcome: str
) -> None:
    """Both forms of refusal settle the attempt."""
    queue = await channel.declare_queue(unique, exclusive=True)
    await publish(channel, unique)
    await publish(channel, unique)
    one, two = await queue.get(), await queue.get()
    await one.nack(requeue=requeue)
    await two.reject(requeue=requeue)
    settled = [span.attributes[SETTLE_OUTCOME] for span in (*hops.processes(), *hops.settles())]
    assert settled.count(outcome) == 2


async def test_one_ack_may_settle_many(channel: Any, unique: str, hops: Any) -> None:
    """`ack(multiple=True)` covers every earlier message of the channel."""
    queue = await channel.declare_queue(unique, exclusive=True)
    for _ in range(3):
        await publish(channel, unique)
    held: list[AbstractIncomingMessage] = []
    await channel.set_qos(prefetch_count=3)

    async def take(message: AbstractIncomingMessage) -> None:
        held.append(message)
        if len(held) == 3:
            await message.ack(multiple=True)

    await queue.consume(take)
    await hops.until(
        lambda: [s.attributes[SETTLE_OUTCOME] for s in (*hops.processes(), *hops.settles())].count("ack") == 3
    )


async def test_a_held_message_of_a_closed_channel_hinders_no_other(
    connection: Any, unique: str, hops: Any
) -> None:
    """`ack(multiple=True)` looks through all messages in hand; one of them cannot be settled any more."""
    gone = await connection.channel()
    queue = await gone.declare_queue(unique, auto_delete=False)
    for _ in range(3):
        await publish(gone, unique)
    held = await queue.get()
    await gone.close()
    channel = await connection.channel()
    queue = await channel.get_queue(unique)
    one, two = await queue.get(), await queue.get()
    await two.ack(multiple=True)
    await queue.delete(if_unused=False, if_empty=False)
    settled = [span.attributes[SETTLE_OUTCOME] for span in (*hops.processes(), *hops.settles())]
    assert (settled.count("ack"), held.processed, one.processed) == (2, False, False)


async def test_without_acks_a_message_is_settled_on_delivery(channel: Any, unique: str, hops: Any) -> None:
    """`no_ack` leaves nothing to wait for."""
    queue = await channel.declare_queue(unique, exclusive=True)
    await publish(channel, unique)
    await queue.consume(take_it, no_ack=True)
    [process] = await hops.processed()
    assert process.attributes[SETTLE_OUTCOME] == "auto"


async def test_a_dead_letter_names_its_first_receiver(channel: Any, unique: str, hops: Any) -> None:
    """The copy tells for whom the original was meant and why it died; passed on by hand, it tells nothing."""
    dead = await channel.declare_queue(f"{unique}-dead", exclusive=True)
    to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name}
    queue = await channel.declare_queue(unique, exclusive=True, arguments=to_dead)
    onward = await channel.declare_queue(f"{unique}-onward", exclusive=True)
    await publish(channel, unique)
    await (await queue.get()).reject()
    async with asyncio.timeout(TIMEOUT_S), dead.iterator() as letters:
        async for letter in letters:
            await channel.default_exchange.publish(letter, onward.name)
            await letter.ack()
            break
    await onward.get(no_ack=True)
    await hops.until(lambda: len(hops.processes()) == 3)
    rejected, buried, again = hops.processes()
    assert buried.attributes[DEAD_LETTER_RECEIVER] == rejected.attributes[RECEIVER] == unique
    assert buried.attributes[DEAD_LETTER_REASON] == "rejected"
    assert buried.attributes[MESSAGE_ID] == rejected.attributes[MESSAGE_ID]
    assert DEAD_LETTER_RECEIVER not in again.attributes
    assert again.attributes[ATTEMPT] == 1


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_attempts_are_counted(channel: Any, unique: str, hops: Any, kind: str) -> None:
    """Quorum queues count deliveries; for classic ones we count what this process sees."""
    queue = await channel.declare_queue(unique, durable=True, arguments={"x-queue-type": kind})
    await publish(channel, unique)
    async with asyncio.timeout(TIMEOUT_S), queue.iterator() as messages:
        async for message in messages:
            if len(hops.processes()) == 2:
                await message.ack()
                break
            await message.nack()
    await queue.delete(if_unused=False, if_empty=False)
    assert [span.attributes[ATTEMPT] for span in await hops.processed(3)] == [1, 2, 3]


async def test_bindings_are_reported_while_they_last(connection: Any, unique: str, hops: Any) -> None:
    """Default exchange, topic and fanout as patterns; headers exchanges cannot be told; gone with the queue."""
    channel = await connection.channel()
    queue = await channel.declare_queue(unique, exclusive=True)
    for kind in ("topic", "fanout", "headers"):
        exchange = await channel.declare_exchange(f"{unique}-{kind}", kind, auto_delete=True)
        await queue.bind(exchange, "order.*")
    await queue.unbind(f"{unique}-topic", "order.*")
    patterns = [report[SUBSCRIPTION_PATTERN] for report in hops.reports("subscribe")]
    assert patterns == [unique, f"{unique}-topic:order.*", f"{unique}-fanout:#"]
    assert [report[SUBSCRIPTION_PATTERN] for report in hops.reports("unsubscribe")] == [
        f"{unique}-topic:order.*"
    ]
    await channel.close()
    await hops.until(lambda: len(hops.reports("unsubscribe")) == 3)


async def take_it(_: AbstractIncomingMessage) -> None:
    """Take a message and do nothing."""
