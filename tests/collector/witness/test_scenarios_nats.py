"""What becomes of NATS messages, with the server's own word for it."""

import asyncio

import nats
import pytest
from nats.aio.msg import Msg
from nats_shop import Shop, shop
from scenario_support import until

from hopwatch_collector.query import Queries
from hopwatch_demo.patience import scale_wait

__all__ = ["shop"]


@pytest.mark.scenario(28, "NATS: plain publish without a subscriber")
async def test_nobody_subscribed(shop: Shop) -> None:
    """A message to a subject that nobody is subscribed to has no receiver, and the server says so too."""
    with shop.stage.named("a"):
        await shop.client.publish(shop.subject, b"a")
    await shop.client.flush()
    await shop.stage.judged({("a", ""): "no_receiver"}, broker=[("a", "")])


@pytest.mark.scenario(30, "NATS: two durables, one behind")
async def test_two_durables(shop: Shop) -> None:
    """Each durable has its own verdict: what one has not read yet waits for it, says the server."""
    await shop.stream()
    billing, audit = await shop.durable("billing"), await shop.durable("audit")
    await shop.send("ab")
    assert await shop.read("billing", 2) == ["a", "b"]
    assert await shop.read("audit", 1) == ["a"]
    expected = {
        ("a", billing): "settled", ("b", billing): "settled", ("a", audit): "settled", ("b", audit): "waiting",
    }  # fmt: skip
    await shop.stage.judged(expected, broker=[("b", audit)])


@pytest.mark.scenario(31, "NATS: deliveries used up")
async def test_max_deliveries(shop: Shop) -> None:
    """A message given back until its consumer's deliveries are used up is dead-lettered, says the server's advisory."""
    await shop.stream()
    billing = await shop.durable("billing", max_deliver=2)
    await shop.stage.observe()
    await shop.send("a")
    assert await shop.read("billing", 1, settle="nak") == ["a"]
    assert await shop.read("billing", 1, settle="nak") == ["a"]
    with pytest.raises(nats.errors.TimeoutError):
        await shop.read("billing", 1)
    told = await shop.stage.judged({("a", billing): "dead_lettered"})
    assert told["a", billing].attempts == 2
    assert "broker" in told["a", billing].witnesses


@pytest.mark.scenario(34, "NATS: stream limit discards unread messages")
async def test_stream_limit(shop: Shop) -> None:
    """What a stream's limit pushed out before a durable read it is evicted for that durable."""
    await shop.stream(max_msgs=2)
    billing = await shop.durable("billing")
    await shop.send("abcd")
    expected = {
        ("a", billing): "evicted",
        ("b", billing): "evicted",
        ("c", billing): "waiting",
        ("d", billing): "waiting",
    }
    await shop.stage.judged(expected)


@pytest.mark.scenario(34, "NATS: stream limit discards messages that were handed out and not settled")
async def test_stream_limit_while_in_hand(shop: Shop) -> None:
    """What a stream's limit pushes out of a client's hands is evicted: the client has not terminated it."""
    await shop.stream(max_msgs=2)
    billing = await shop.durable("billing")
    await shop.send("ab")
    with shop.stage.unseen():
        await shop.read("billing", 2, "in_progress")
    await shop.stage.judged({("a", billing): "in_flight", ("b", billing): "in_flight"})
    await shop.send("cd")
    expected = {
        ("a", billing): "evicted",
        ("b", billing): "evicted",
        ("c", billing): "waiting",
        ("d", billing): "waiting",
    }
    await shop.stage.judged(expected)


@pytest.mark.scenario(37, "NATS: consumer deleted with messages pending")
async def test_consumer_deleted(shop: Shop) -> None:
    """What a deleted durable had not read is lost to it."""
    await shop.stream()
    billing = await shop.durable("billing")
    await shop.send("a")
    await shop.stage.judged({("a", billing): "waiting"})
    await shop.js.delete_consumer(shop.stage.unique, "billing")
    await shop.stage.judged({("a", billing): "lost"})


@pytest.mark.scenario(29, "NATS: queue group")
async def test_queue_group(shop: Shop) -> None:
    """Members of a queue group share one copy: one receiver, settled by whichever member got it."""
    got: list[str] = []

    async def handle(message: Msg) -> None:
        got.append(message.data.decode())

    for _ in range(3):
        await shop.client.subscribe(shop.subject, queue=f"{shop.stage.unique}-mail", cb=handle)
    await shop.client.flush()
    for name in "abc":
        with shop.stage.named(name):
            await shop.client.publish(shop.subject, name.encode())
    await until(lambda: len(got) == 3, "three messages")
    assert sorted(got) == ["a", "b", "c"]
    await shop.stage.judged({(name, f"{shop.stage.unique}-mail"): "settled" for name in got})


@pytest.mark.scenario(32, "NATS: terminated by the consumer")
async def test_terminated(shop: Shop) -> None:
    """A terminated message is dead-lettered; the server's advisory says the same."""
    await shop.stream()
    billing = await shop.durable("billing")
    await shop.stage.observe()
    await shop.send("ab")
    assert await shop.read("billing", 1, settle="term") == ["a"]
    assert await shop.read("billing", 1) == ["b"]
    expected = {("a", billing): "dead_lettered", ("b", billing): "settled"}
    await shop.stage.judged(expected, broker=[("a", billing)])


@pytest.mark.scenario(33, "NATS: given back with a delay")
async def test_nak_with_delay(shop: Shop) -> None:
    """A message given back to come again later waits on purpose: not overdue before its delay is over, and no lag."""
    await shop.stream()
    billing = await shop.durable("billing")
    await shop.send("a")
    assert await shop.read("billing", 1, settle="nak", delay=3600) == ["a"]
    told = await shop.stage.judged({("a", billing): "waiting"}, deadline_s=0.5)
    assert told["a", billing].cause == "waiting.delayed"
    (row,) = [row for row in Queries(shop.stage.store).lag().rows if row.receiver == billing]
    assert row.waiting == 0


@pytest.mark.scenario(35, "NATS: duplicate Nats-Msg-Id")
async def test_duplicate(shop: Shop) -> None:
    """A message the stream already has is refused as a duplicate, and owed to nobody; the first one is settled."""
    await shop.stream()
    billing = await shop.durable("billing")
    await shop.send("ab", headers={"Nats-Msg-Id": "order-1"})
    assert await shop.read("billing", 1) == ["a"]
    told = await shop.stage.judged({("a", billing): "settled", ("b", ""): "refused"})
    assert told["b", ""].reason == "the broker dropped it as a duplicate of an earlier message"


@pytest.mark.scenario(36, "NATS: requests without responders, timing out, and answered late")
async def test_requests(shop: Shop) -> None:
    """Nobody there is `returned`; a responder that does not answer in time got the request, and its late reply is seen."""
    with shop.stage.named("nobody"), pytest.raises(nats.errors.NoRespondersError):
        await shop.client.request(f"{shop.subject}.nobody", b"?", timeout=scale_wait(20))

    go = asyncio.Event()
    answered = asyncio.Event()

    async def slow(message: Msg) -> None:
        await go.wait()
        await message.respond(b"late")
        answered.set()

    await shop.client.subscribe(f"{shop.subject}.slow", queue=f"{shop.stage.unique}-slow", cb=slow)
    await shop.client.flush()
    with shop.stage.named("slow"), pytest.raises(nats.errors.TimeoutError):
        await shop.client.request(f"{shop.subject}.slow", b"?", timeout=0.2)
    go.set()
    await answered.wait()
    await shop.client.flush()
    until_said = {("nobody", ""): "returned", ("slow", f"{shop.stage.unique}-slow"): "settled"}
    told = await shop.stage.judged(until_said, only=lambda one: "_INBOX" not in one.destination)
    assert told["nobody", ""].reason.startswith("there was nowhere to route it")
    (reply,) = [one for one in shop.stage.ledger() if one.destination == "_INBOX"]
    assert reply.flow_id == told["slow", f"{shop.stage.unique}-slow"].flow_id


@pytest.mark.scenario(38, "NATS: acknowledgement wait over, delivered again")
async def test_ack_wait(shop: Shop) -> None:
    """A message not acknowledged in time comes again: two attempts of one delivery, settled by the second."""
    await shop.stream()
    billing = await shop.durable("billing", ack_wait=0.5)
    await shop.send("a")
    subscription = await shop.js.pull_subscribe_bind("billing", stream=shop.stage.unique)
    (first,) = await subscription.fetch(1, timeout=scale_wait(20))
    assert first.metadata.num_delivered == 1
    (second,) = await subscription.fetch(1, timeout=scale_wait(20))
    assert second.metadata.num_delivered == 2
    await second.ack_sync()
    told = await shop.stage.judged({("a", billing): "settled"})
    assert told["a", billing].attempts == 2


async def test_uninstrumented_durable(shop: Shop) -> None:
    """What a consumer that tells nothing acknowledged is settled on the server's word."""
    await shop.stream()
    legacy = await shop.durable("legacy")
    await shop.send("ab")
    with shop.stage.unseen():
        assert await shop.read("legacy", 1) == ["a"]
    told = await shop.stage.judged({("a", legacy): "settled", ("b", legacy): "waiting"})
    assert told["a", legacy].witnesses == ["producer", "broker"]
