"""What is particular to core NATS: plain and grouped subscribers, callbacks, iterators, size limits."""

import asyncio
import gc
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from transport_support import TIMEOUT_S

from hopwatch.conventions import (
    ALIAS,
    PUBLISH_OUTCOME,
    RECEIVER,
    SETTLE_OUTCOME,
    SUBSCRIPTION_DURABLE,
    SUBSCRIPTION_PATTERN,
)
from hopwatch.transports.nats import NatsInstrumentor
from hopwatch.transports.nats.places import destination
from hopwatch_demo.patience import scale_wait


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


async def test_a_message_as_large_as_allowed_still_goes_through(
    client: Client, unique: str, hops: Any
) -> None:
    """Headers of ours never push a message over the server's limit."""
    subscription = await client.subscribe(unique)
    await client.publish(unique, bytes(client.max_payload))
    assert len((await subscription.next_msg(timeout=TIMEOUT_S)).data) == client.max_payload
    assert [send.attributes[PUBLISH_OUTCOME] for send in hops.sends()] == ["sent"]


async def test_a_server_is_named_only_while_there_is_a_connection_to_it(nats_url: str, unique: str) -> None:
    """What is known of a subject is by connection: one that has gone says nothing of a client without any."""
    client = await nats.connect(nats_url, connect_timeout=scale_wait(20))
    known = destination(unique, client)
    assert known.attributes
    assert destination(unique, client) is known
    await client.close()
    del client
    gc.collect()
    assert destination(unique, Client()).attributes == {}
