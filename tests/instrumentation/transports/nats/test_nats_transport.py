"""What is particular to NATS: requests and replies, plain and grouped subscribers, JetStream's acknowledgements."""

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NoStreamResponseError
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from transport_support import TIMEOUT_S

from hopwatch.conventions import (
    ALIAS,
    ATTEMPT,
    DESTINATION,
    MESSAGE_ID,
    MESSAGING_CONVERSATION_ID,
    MESSAGING_DESTINATION_TEMPORARY,
    PENDING,
    PUBLISH_OUTCOME,
    REASON,
    RECEIVER,
    SEQUENCE,
    SETTLE_OUTCOME,
    STREAM,
    SUBSCRIPTION_DURABLE,
    SUBSCRIPTION_PATTERN,
)
from hopwatch.transports.nats import NatsInstrumentor


async def test_a_request_and_its_reply_are_two_hops_of_one_flow(
    client: Client, unique: str, hops: Any
) -> None:
    """The reply goes to the one temporary destination `_INBOX`; the inbox's name ties the two together."""

    async def answer(message: Msg) -> None:
        await message.respond(b"42")

    await client.subscribe(unique, cb=answer)
    reply = await client.request(unique, b"?", timeout=TIMEOUT_S)
    assert reply.data == b"42"
    asked, answered = await hops.processed(2)
    replied, requested = hops.sends()
    assert requested.attributes[PUBLISH_OUTCOME] == "confirmed"
    assert (replied.attributes[PUBLISH_OUTCOME], replied.attributes[DESTINATION]) == ("sent", "_INBOX")
    assert replied.attributes[MESSAGING_DESTINATION_TEMPORARY] is True
    assert answered.attributes[RECEIVER] == "under-test:_INBOX"
    assert answered.attributes[MESSAGE_ID] == replied.attributes[MESSAGE_ID]
    assert len({span.attributes[MESSAGING_CONVERSATION_ID] for span in (asked, answered, replied)}) == 1
    assert len({span.context.trace_id for span in (asked, answered, replied, requested)}) == 1
    assert replied.parent.span_id == asked.context.span_id


async def test_a_request_with_nobody_there_is_returned(client: Client, unique: str, hops: Any) -> None:
    """No responders: the exception is the library's own, the outcome says why."""
    with pytest.raises(NoRespondersError):
        await client.request(unique, b"?")
    [send] = hops.sends()
    assert send.attributes[PUBLISH_OUTCOME] == "returned"
    assert "NoRespondersError" in send.attributes[REASON]
    assert send.status.status_code is StatusCode.ERROR


async def test_a_request_without_an_answer_is_unconfirmed(client: Client, unique: str, hops: Any) -> None:
    """A timeout says nothing of whether the request arrived."""
    await client.subscribe(unique)
    with pytest.raises(NatsTimeout):
        await client.request(unique, b"?", timeout=0.05)
    assert [send.attributes[PUBLISH_OUTCOME] for send in hops.sends()] == ["unconfirmed"]


async def test_a_cancelled_request_is_unconfirmed(client: Client, unique: str, hops: Any) -> None:
    """Cancellation goes through unchanged and ends the send."""
    await client.subscribe(unique)
    asking = asyncio.create_task(client.request(unique, b"?", timeout=TIMEOUT_S))
    await hops.until(lambda: client.stats["out_msgs"])
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [send.attributes[PUBLISH_OUTCOME] for send in hops.sends()] == ["unconfirmed"]


async def test_a_group_shares_a_copy_and_a_plain_subscriber_has_its_own(
    client: Client, unique: str, hops: Any
) -> None:
    """The receiver is the queue group, or the service with its subject; core NATS needs no acknowledgement."""
    one = await client.subscribe(f"{unique}.*", queue="workers")
    two = await client.subscribe(f"{unique}.>")
    await client.publish(f"{unique}.x", b"1", headers={"Nats-Msg-Id": "mine"})
    await one.next_msg(timeout=TIMEOUT_S)
    await two.next_msg(timeout=TIMEOUT_S)
    await one.unsubscribe()
    await two.unsubscribe()
    attempts = await hops.processed(2)
    assert {(span.attributes[RECEIVER], span.attributes[SETTLE_OUTCOME]) for span in attempts} == {
        ("workers", "auto"),
        (f"under-test:{unique}.>", "auto"),
    }
    [send] = hops.sends()
    assert send.attributes[PUBLISH_OUTCOME] == "sent"
    assert send.attributes[ALIAS] == attempts[0].attributes[ALIAS] == ("mine",)
    begun, ended = hops.reports("subscribe"), hops.reports("unsubscribe")
    assert [(r[SUBSCRIPTION_PATTERN], r[RECEIVER], r[SUBSCRIPTION_DURABLE]) for r in begun] == [
        (f"{unique}.*", "workers", False),
        (f"{unique}.>", f"under-test:{unique}.>", False),
    ]
    assert [r[RECEIVER] for r in ended] == ["workers", f"under-test:{unique}.>"]


async def test_a_group_is_subscribed_until_its_last_member_leaves(
    client: Client, unique: str, hops: Any
) -> None:
    """Two members of one group in a process are one title."""
    one = await client.subscribe(unique, queue="workers")
    two = await client.subscribe(unique, queue="workers")
    await one.unsubscribe()
    assert (len(hops.reports("subscribe")), hops.reports("unsubscribe")) == (1, [])
    await two.unsubscribe()
    assert len(hops.reports("unsubscribe")) == 1


async def test_a_failing_callback_is_seen_by_us_and_by_the_application(
    client: Client, unique: str, hops: Any, errors: list[Exception]
) -> None:
    """The exception goes where nats-py sends it, and onto the attempt."""

    async def fail(_: Msg) -> None:
        raise ValueError("broken")

    await client.subscribe(unique, cb=fail)
    await client.publish(unique, b"1")
    [process] = await hops.processed()
    await hops.until(lambda: errors)
    assert process.status.status_code is StatusCode.ERROR
    assert [str(error) for error in errors] == ["broken"]


async def test_a_message_belongs_to_its_sender_not_to_the_subscriber(
    client: Client, unique: str, hops: Any
) -> None:
    """A subscription made inside a span does not make its messages part of that span's trace."""
    with trace.get_tracer("app").start_as_current_span("start-up") as outer:
        got = asyncio.Event()

        async def take(_: Msg) -> None:
            got.set()

        await client.subscribe(unique, cb=take)
    NatsInstrumentor().uninstrument()
    await client.publish(unique, b"from somebody without instrumentation")
    NatsInstrumentor().instrument(skip_dep_check=True)
    await client.subscribe(f"{unique}.again", cb=take)
    await client.publish(f"{unique}.again", b"1")
    [process] = await hops.processed()
    assert process.context.trace_id != outer.get_span_context().trace_id


async def test_what_a_loop_sends_belongs_to_the_message_at_hand(
    client: Client, unique: str, hops: Any
) -> None:
    """`async for` makes each message current until the next is asked for."""
    subscription = await client.subscribe(unique, max_msgs=2)
    for body in (b"1", b"2"):
        await client.publish(unique, body)
    async for message in subscription.messages:
        await client.publish(f"{unique}.out", message.data)
        if message.data == b"2":
            await subscription.unsubscribe()
    first, second = await hops.processed(2)
    _, _, out_one, out_two = hops.sends()
    assert out_one.parent.span_id == first.context.span_id
    assert out_two.parent.span_id == second.context.span_id
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_message_nobody_holds_any_longer_is_done(client: Client, unique: str, hops: Any) -> None:
    """An attempt whose message was let go ends without another fetch."""
    subscription = await client.subscribe(unique)
    await client.publish(unique, b"1")
    message: Msg | None = await subscription.next_msg(timeout=TIMEOUT_S)
    assert hops.processes() == []
    message = None
    assert message is None
    await hops.processed(1)


async def test_a_reply_from_elsewhere_belongs_to_the_flow(client: Client, unique: str, hops: Any) -> None:
    """A responder may answer from a task that knows nothing of the request."""
    subscription = await client.subscribe(unique)
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox)
    await client.publish(unique, b"?", reply=inbox)
    got = await asyncio.create_task(subscription.next_msg(timeout=TIMEOUT_S))
    await got.respond(b"!")
    await replies.next_msg(timeout=TIMEOUT_S)
    asked, replied = hops.sends()
    assert replied.context.trace_id == asked.context.trace_id
    assert replied.attributes[DESTINATION] == "_INBOX"
    assert (
        asked.attributes[MESSAGING_CONVERSATION_ID] == replied.attributes[MESSAGING_CONVERSATION_ID] == inbox
    )


async def test_a_message_as_large_as_allowed_still_goes_through(
    client: Client, unique: str, hops: Any
) -> None:
    """Headers of ours never push a message over the server's limit."""
    subscription = await client.subscribe(unique)
    await client.publish(unique, bytes(client.max_payload))
    assert len((await subscription.next_msg(timeout=TIMEOUT_S)).data) == client.max_payload
    assert [send.attributes[PUBLISH_OUTCOME] for send in hops.sends()] == ["sent"]


async def test_a_stream_says_where_a_message_lies(js: Any, unique: str, hops: Any) -> None:
    """Stream and sequence come from the acknowledgement; a second copy is a duplicate."""
    headers = {"Nats-Msg-Id": "once"}
    await js.publish(f"{unique}.x", b"1", headers=headers)
    await js.publish(f"{unique}.x", b"1", headers=headers)
    later = await js.publish_async(f"{unique}.x", b"2")
    await asyncio.wait_for(later, TIMEOUT_S)
    await hops.until(lambda: len(hops.sends()) == 3)
    told = [span.attributes for span in hops.sends()]
    assert [(t[PUBLISH_OUTCOME], t[STREAM], t[SEQUENCE]) for t in told] == [
        ("confirmed", unique, 1),
        ("duplicate", unique, 1),
        ("confirmed", unique, 2),
    ]
    assert headers == {"Nats-Msg-Id": "once"}


async def test_a_publish_no_stream_takes_is_returned(js: Any, unique: str, hops: Any) -> None:
    """Nobody stores it: there is nowhere to route it."""
    with pytest.raises(NoStreamResponseError):
        await js.publish(f"elsewhere-{unique}", b"1")
    assert [send.attributes[PUBLISH_OUTCOME] for send in hops.sends()] == ["returned"]


async def test_fetched_messages_are_settled_one_by_one(js: Any, unique: str, hops: Any) -> None:
    """Each message of a fetch is an attempt of its own, current while the loop is at it."""
    pull = await js.pull_subscribe(f"{unique}.>", durable="d")
    for number in range(3):
        await js.publish(f"{unique}.x", str(number).encode())
    acked, again, bad = messages = await pull.fetch(3, timeout=TIMEOUT_S)
    assert isinstance(messages, list)
    for message in messages:
        await js._nc.publish("out", message.data)
    await bad.term()
    await again.nak()
    await acked.ack_sync()
    [repeated] = await pull.fetch(1, timeout=TIMEOUT_S)
    await repeated.ack()
    spans = {
        int(span.attributes[SEQUENCE]): span
        for span in await hops.processed(4)
        if span.attributes[ATTEMPT] == 1
    }
    assert [spans[n].attributes[SETTLE_OUTCOME] for n in (1, 2, 3)] == ["ack", "nack", "term"]
    assert [spans[n].attributes[PENDING] for n in (1, 2, 3)] == [2, 1, 0]
    assert {span.attributes[RECEIVER] for span in spans.values()} == {f"{unique}/d"}
    sent = [send for send in hops.sends() if send.attributes[DESTINATION] == "out"]
    assert [send.parent.span_id for send in sent] == [spans[n].context.span_id for n in (1, 2, 3)]
    last = hops.processes()[-1]
    assert (last.attributes[SEQUENCE], last.attributes[ATTEMPT], last.attributes[SETTLE_OUTCOME]) == (
        2,
        2,
        "ack",
    )


async def test_an_ack_after_the_next_fetch_is_a_settlement_of_its_own(
    js: Any, unique: str, hops: Any
) -> None:
    """The attempt ended unsettled when its task came back for more; the late ack is not lost."""
    pull = await js.pull_subscribe(f"{unique}.>", durable="d")
    await js.publish(f"{unique}.x", b"1")
    await js.publish(f"{unique}.x", b"2")
    [early] = await pull.fetch(1, timeout=TIMEOUT_S)
    await pull.fetch(1, timeout=TIMEOUT_S)
    await early.ack()
    [first] = [span for span in hops.processes() if span.attributes[SEQUENCE] == 1]
    [settle] = hops.settles()
    assert first.attributes[SETTLE_OUTCOME] == "none"
    assert settle.attributes[SETTLE_OUTCOME] == "ack"
    assert settle.parent.span_id == first.context.span_id


async def test_a_push_consumer_acknowledges_by_itself(js: Any, unique: str, hops: Any) -> None:
    """nats-py acks after the callback; the subscription underneath is not recorded beside it."""
    got = asyncio.Event()

    async def take(_: Msg) -> None:
        got.set()

    subscription = await js.subscribe(f"{unique}.>", cb=take)
    await js.publish(f"{unique}.x", b"1")
    [process] = await hops.processed()
    assert process.attributes[SETTLE_OUTCOME] == "ack"
    await subscription.unsubscribe()
    assert len(hops.reports("subscribe")) == len(hops.reports("unsubscribe")) == 1
    assert len(hops.processes()) == 1


async def test_a_consumer_without_acks_settles_on_delivery(js: Any, unique: str, hops: Any) -> None:
    """With ack policy none there is nothing to wait for."""
    subscription = await js.subscribe(f"{unique}.>", config=ConsumerConfig(ack_policy=AckPolicy.NONE))
    await js.publish(f"{unique}.x", b"1")
    await subscription.next_msg(timeout=TIMEOUT_S)
    await subscription.unsubscribe()
    [process] = await hops.processed()
    assert process.attributes[SETTLE_OUTCOME] == "auto"


async def test_stores_are_no_messages(js: Any, unique: str, hops: Any) -> None:
    """Key-value and object stores ride on streams, and are none of a message ledger's business."""
    buckets = await js.create_key_value(bucket=unique)
    await buckets.put("key", b"value")
    watcher = await buckets.watchall()
    await watcher.updates(timeout=TIMEOUT_S)
    await watcher.stop()
    objects = await js.create_object_store(bucket=unique)
    await objects.put("name", b"data")
    assert (await objects.get("name")).data == b"data"
    await js.delete_key_value(unique)
    await js.delete_object_store(unique)
    assert hops.all() == ()
