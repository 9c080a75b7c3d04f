"""JetStream: acknowledged publishes, push, pull and ordered consumers, settlement, redelivery; stores are no messages."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NoStreamResponseError
from transport_support import TIMEOUT_S, outcomes

from hopwatch.conventions import (
    ATTEMPT,
    DESTINATION,
    MESSAGE_ID,
    MESSAGING_BODY_SIZE,
    PENDING,
    PUBLISH_OUTCOME,
    REASON,
    RECEIVER,
    SEQUENCE,
    SERVER_ADDRESS,
    SERVER_PORT,
    SETTLE_OUTCOME,
    STREAM,
    SUBSCRIPTION_PATTERN,
)
from hopwatch.transports.nats import NatsInstrumentor
from hopwatch.transports.nats.places import Schedule


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
    assert (await buckets.get("key")).value == b"value"
    watcher = await buckets.watchall()
    assert (await watcher.updates(timeout=TIMEOUT_S)).value == b"value"
    await watcher.stop()
    assert await buckets.keys() == ["key"]
    assert len(await buckets.history("key")) == 1
    await buckets.delete("key")
    objects = await js.create_object_store(bucket=unique)
    await objects.put("name", b"data")
    assert (await objects.get("name")).data == b"data"
    assert [info.name for info in await objects.list()] == ["name"]
    await objects.delete("name")
    await js.delete_key_value(unique)
    await js.delete_object_store(unique)
    assert hops.all() == ()


async def test_a_message_given_back_with_a_delay_comes_again(js: Any, unique: str, hops: Any) -> None:
    """How long it waits is on the attempt; telling the server to wait for us settles nothing."""
    pull = await js.pull_subscribe(f"{unique}.>", durable="d")
    await js.publish(f"{unique}.x", b"1")
    [message] = await pull.fetch(1, timeout=TIMEOUT_S)
    await message.in_progress()
    assert hops.processes() == []
    await message.nak(delay=0.05)
    [again] = await pull.fetch(1, timeout=TIMEOUT_S)
    await again.ack()
    first, second = await hops.processed(2)
    assert (first.attributes[SETTLE_OUTCOME], first.attributes[REASON]) == ("nack", "again in 0.05 s")
    assert [first.attributes[ATTEMPT], second.attributes[ATTEMPT]] == [1, 2]
    assert [send.attributes[DESTINATION] for send in hops.sends()] == [f"{unique}.x"]


async def test_an_ordered_consumer_settles_on_delivery(js: Any, unique: str, hops: Any) -> None:
    """It acknowledges nothing; each message is current while the loop is at it, and knows what waits behind it."""
    for body in (b"1", b"2", b"3"):
        await js.publish(f"{unique}.x", body)
    subscription = await js.subscribe(f"{unique}.>", ordered_consumer=True)
    async with asyncio.timeout(TIMEOUT_S):
        async for message in subscription.messages:
            await js._nc.publish("out", message.data)
            if message.data == b"3":
                break
    await subscription.unsubscribe()
    attempts = await hops.processed(3)
    assert [span.attributes[SEQUENCE] for span in attempts] == [1, 2, 3]
    assert [span.attributes[PENDING] for span in attempts] == [2, 1, 0]
    assert {span.attributes[SETTLE_OUTCOME] for span in attempts} == {"auto"}
    out = [send for send in hops.sends() if send.attributes[DESTINATION] == "out"]
    assert [send.parent.span_id for send in out] == [span.context.span_id for span in attempts]


@pytest.mark.parametrize(
    ("starts", "told"),
    [
        ({"deliver_policy": DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": 3}, "from 3\x1f"),
        ({"deliver_policy": DeliverPolicy.ALL}, ""),
    ],
    ids=["from the third", "from the first"],
)
async def test_a_consumer_is_owed_from_where_it_starts(
    js: Any, unique: str, hops: Any, starts: dict[str, Any], told: str
) -> None:
    """One that begins at a sequence says so with what it subscribes to, as the server's own claim has it."""
    pull = await js.pull_subscribe(f"{unique}.x", durable="d", config=ConsumerConfig(**starts))
    await hops.until(lambda: hops.reports("subscribe"))
    assert {report[SUBSCRIPTION_PATTERN] for report in hops.reports("subscribe")} == {f"{told}{unique}.x"}
    await pull.unsubscribe()


async def test_members_of_a_queue_group_share_a_push_consumer(js: Any, unique: str, hops: Any) -> None:
    """The receiver is the consumer, whoever of the group reads."""
    one = await js.subscribe(f"{unique}.>", queue="workers", manual_ack=True)
    two = await js.subscribe(f"{unique}.>", queue="workers", manual_ack=True)
    for number in range(6):
        await js.publish(f"{unique}.x", str(number).encode())

    async def take(subscription: Any) -> None:
        while len(hops.processes()) < 6:
            try:
                await (await subscription.next_msg(timeout=0.2)).ack()
            except NatsTimeout:
                continue

    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(take(one), take(two))
    await one.unsubscribe()
    await two.unsubscribe()
    assert {span.attributes[RECEIVER] for span in hops.processes()} == {f"{unique}/workers"}
    assert [span.attributes[SETTLE_OUTCOME] for span in hops.processes()] == ["ack"] * 6


async def test_a_publish_the_stream_does_not_take_is_refused(js: Any, unique: str, hops: Any) -> None:
    """The server's error is the reason; without any acknowledgement nobody knows."""
    with pytest.raises(APIError):
        await js.publish(f"{unique}.x", b"1", stream="another")
    await js.add_stream(name=f"{unique}-mute", subjects=[f"{unique}-mute"], no_ack=True)
    with pytest.raises(NatsTimeout):
        await js.publish(f"{unique}-mute", b"1", timeout=0.1)
    await js.delete_stream(f"{unique}-mute")
    assert outcomes(hops) == ["refused", "unconfirmed"]


async def test_a_publish_whose_acknowledgement_is_not_awaited_fails_visibly(
    js: Any, unique: str, hops: Any
) -> None:
    """Nowhere to store it, or cancelled before the answer."""
    lost = await js.publish_async(f"elsewhere-{unique}", b"1")
    with pytest.raises(NoStreamResponseError):
        await asyncio.wait_for(lost, TIMEOUT_S)
    (await js.publish_async(f"{unique}.x", b"1")).cancel()
    await hops.until(lambda: len(hops.sends()) == 2)
    assert outcomes(hops) == ["returned", "unconfirmed"]


async def test_every_hop_names_its_server(js: Any, nats_url: str, unique: str, hops: Any) -> None:
    """That of the connection in force, on both sides."""
    pull = await js.pull_subscribe(f"{unique}.>", durable="d")
    await js.publish(f"{unique}.x", b"1")
    await (await pull.fetch(1, timeout=TIMEOUT_S))[0].ack()
    address = urlsplit(nats_url)
    for span in (*hops.sends(), *await hops.processed()):
        assert (span.attributes[SERVER_ADDRESS], span.attributes[SERVER_PORT]) == (
            address.hostname,
            address.port,
        )


async def test_sizes_are_recorded_only_on_request(
    client: Client, unique: str, hops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`HOPWATCH_RECORD` is read when the library is instrumented."""
    subscription = await client.subscribe(unique)
    await client.publish(unique, b"12345")
    await subscription.next_msg(timeout=TIMEOUT_S)
    NatsInstrumentor().uninstrument()
    monkeypatch.setenv("HOPWATCH_RECORD", "body_size")
    NatsInstrumentor().instrument(skip_dep_check=True)
    await client.publish(unique, b"12345")
    await subscription.next_msg(timeout=TIMEOUT_S)
    await subscription.unsubscribe()
    assert [send.attributes.get(MESSAGING_BODY_SIZE) for send in hops.sends()] == [None, 5]
    assert [span.attributes.get(MESSAGING_BODY_SIZE) for span in await hops.processed(2)] == [None, 5]


async def test_what_is_published_again_is_told_of_the_first(js: Any, unique: str, hops: Any) -> None:
    """The application tries again with what nobody answered; the stream may hold both."""
    with pytest.raises(NatsTimeout):
        await js.publish(f"{unique}.x", b"order 7", timeout=1e-6)
    await js.publish(f"{unique}.x", b"order 8")
    await js.publish(f"{unique}.x", b"order 7")
    first, _, again, told = sorted(hops.sends(), key=lambda send: send.start_time)
    assert first.attributes[PUBLISH_OUTCOME] == told.attributes[PUBLISH_OUTCOME] == "unconfirmed"
    assert first.attributes[MESSAGE_ID] == told.attributes[MESSAGE_ID]
    assert told.attributes[REASON] == f"sent again as {again.attributes[MESSAGE_ID]}"


async def test_what_a_stream_is_asked_to_send_later(js: Any, client: Client, unique: str, hops: Any) -> None:
    """It goes to where it will be sent, and lies nowhere yet: the acknowledged place is that of the request."""
    name = f"{unique}-later"
    config = {"name": name, "subjects": [f"{name}.>"], "allow_msg_schedules": True}
    await client.request(f"$JS.API.STREAM.CREATE.{name}", json.dumps(config).encode())
    for what in (f"@at {datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}", "@every 1h"):
        headers = {"Nats-Schedule": what, "Nats-Schedule-Target": f"{name}.due"}
        await js.publish(f"{name}.plan", b"1", headers=headers)
    await js.delete_stream(name)
    once, often = (send.attributes for send in hops.sends() if send.attributes[DESTINATION] == f"{name}.due")
    assert 3590 < float(once[REASON].removeprefix("not before ").removesuffix(" s")) <= 3600
    assert REASON not in often
    assert SEQUENCE not in once


@pytest.mark.parametrize("when", ["@at soon", "@at ", "", "every day"])
def test_a_schedule_that_makes_no_sense_says_not_when(when: str) -> None:
    """Whatever an application writes there, where it goes is known."""
    assert Schedule.of({"Nats-Schedule": when, "Nats-Schedule-Target": "due"}) == Schedule("due", "")
