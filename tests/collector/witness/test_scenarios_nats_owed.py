"""What JetStream's consumers are owed: from where they start, of streams that copy from others, as long as they are there."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig, StreamSource
from nats_shop import Shop, shop
from scenario_support import until

from hopwatch_demo.patience import scale_wait

__all__ = ["shop"]


async def copying(shop: Shop, short: str, *origins: str, mirror: bool = False) -> str:
    """A stream without subjects of its own, fed by others, and a consumer of it without a filter."""
    name = f"{shop.stage.unique}-{short}"
    sources = [StreamSource(name=origin) for origin in origins]
    config = (
        StreamConfig(name=name, mirror=sources[0]) if mirror else StreamConfig(name=name, sources=sources)
    )
    await shop.js.add_stream(config)
    await shop.js.add_consumer(name, ConsumerConfig(durable_name="legacy", ack_policy=AckPolicy.EXPLICIT))

    async def there() -> bool:
        return (await shop.js.stream_info(name)).config.name == name

    await until(there, "the stream")
    return name


async def copied(shop: Shop, stream: str, count: int) -> None:
    """Wait until a stream has copied so many."""

    async def all_there() -> bool:
        return (await shop.js.stream_info(stream)).state.last_seq >= count

    await until(all_there, "all to be copied")


async def take(shop: Shop, stream: str, consumer: str, count: int, settle: str = "ack") -> list[str]:
    """Have a consumer that nobody instrumented take so many and settle them."""
    with shop.stage.unseen():
        subscription = await shop.js.pull_subscribe_bind(consumer, stream=stream)
        got = []
        for message in await subscription.fetch(count, timeout=scale_wait(20)):
            got.append(message.data.decode())
            if settle:
                await getattr(message, settle)()
        await subscription.unsubscribe()
        await shop.client.flush()
    return got


@pytest.mark.scenario(60, "NATS: consumer without a filter on a stream with a source")
async def test_a_source(shop: Shop) -> None:
    """What a stream copied is owed to its consumers, and settled on the server's word by where it lies in the first stream."""
    await shop.stream()
    copy = await copying(shop, "copy", shop.stage.unique)
    await shop.stage.observe()
    await shop.send("abc")
    await copied(shop, copy, 3)
    receiver = f"{copy}/legacy"
    await shop.stage.judged({(name, receiver): "waiting" for name in "abc"}, broker=[("a", receiver)])
    assert await take(shop, copy, "legacy", 1) == ["a"]
    expected = {("a", receiver): "settled", ("b", receiver): "overdue", ("c", receiver): "overdue"}
    await shop.stage.judged(expected, broker=list(expected), deadline_s=0.5)


@pytest.mark.scenario(61, "NATS: consumer without a filter on a mirror")
async def test_a_mirror(shop: Shop) -> None:
    """A mirror keeps the sequence numbers, of what is removed too."""
    await shop.stream()
    await shop.send("a")
    assert await shop.js.purge_stream(shop.stage.unique)
    copy = await copying(shop, "copy", shop.stage.unique, mirror=True)
    await shop.stage.observe()
    await shop.send("bcd")
    await copied(shop, copy, 4)
    assert await take(shop, copy, "legacy", 2) == ["b", "c"]
    receiver = f"{copy}/legacy"
    expected = {("b", receiver): "settled", ("c", receiver): "settled", ("d", receiver): "waiting"}
    await shop.stage.judged(expected, broker=list(expected), only=lambda one: shop.stage.name_of(one) != "a")


@pytest.mark.scenario(62, "NATS: consumer without a filter on a stream with two sources")
async def test_two_sources(shop: Shop) -> None:
    """All waits as long as nothing was handed out; after that it is not known which of them was."""
    await shop.stream()
    other = f"{shop.stage.unique}-other"
    await shop.js.add_stream(StreamConfig(name=other, subjects=[f"{other}.>"]))
    copy = await copying(shop, "copy", shop.stage.unique, other)
    await shop.stage.observe()
    await shop.send("ab")
    with shop.stage.named("c"):
        await shop.js.publish(f"{other}.orders", b"c")
    await copied(shop, copy, 3)
    receiver = f"{copy}/legacy"
    expected = {(name, receiver): "waiting" for name in "abc"}
    await shop.stage.judged(expected, broker=list(expected))
    await take(shop, copy, "legacy", 1)
    told = await shop.stage.judged(dict.fromkeys(expected, "unknown"), deadline_s=0.5)
    assert {one.cause for one in told.values()} == {"unknown.no_position"}


@pytest.mark.scenario(63, "NATS: consumers that start at an offset, at a time, at the last")
async def test_where_consumers_start(shop: Shop) -> None:
    """What lies before the start of a consumer is not owed to it, and what lies behind it is, though it was sent before."""
    await shop.stream()
    await shop.send("ab")
    long_ago = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    third = await shop.durable("third", deliver_policy="by_start_sequence", opt_start_seq=2)
    since = await shop.durable("since", deliver_policy="by_start_time", opt_start_time=long_ago)
    last = await shop.durable("last", deliver_policy="last")
    new = await shop.durable("new", deliver_policy="new")
    await shop.stage.observe()
    await shop.send("c")
    expected = {
        ("b", third): "waiting", ("c", third): "waiting",
        ("a", since): "waiting", ("b", since): "waiting", ("c", since): "waiting",
        ("b", last): "waiting", ("c", last): "waiting",
        ("c", new): "waiting",
    }  # fmt: skip
    await shop.stage.judged(expected, broker=list(expected))


@pytest.mark.scenario(64, "NATS: ephemeral and ordered consumers that went")
async def test_ephemeral_consumers(shop: Shop) -> None:
    """A consumer that lasts only while somebody is connected loses nothing when it goes: it is told that it left."""
    await shop.stream()
    billing = await shop.durable("billing")
    with shop.stage.unseen():
        made = await shop.js.add_consumer(
            shop.stage.unique, ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, inactive_threshold=300)
        )
    brief = f"{shop.stage.unique}/{made.name}"
    await shop.stage.observe()
    await shop.send("a")
    await shop.stage.judged({("a", billing): "waiting", ("a", brief): "waiting"})
    with shop.stage.unseen():
        await shop.js.delete_consumer(shop.stage.unique, made.name)
    told = await shop.stage.judged({("a", billing): "waiting", ("a", brief): "no_receiver"})
    assert told["a", brief].cause == "no_receiver.left"


@pytest.mark.scenario(65, "NATS: work queue with two filtered consumers, read between two looks")
async def test_work_queue(shop: Shop) -> None:
    """What a work queue let go of was settled, where as many messages went as its consumers settled."""
    await shop.stream(retention="workqueue")
    subject = shop.stage.unique
    for name in ("red", "blue"):
        await shop.durable(name, filter_subject=f"{subject}.{name}")
    await shop.stage.observe()
    for name, color in zip("abcd", ("red", "blue", "red", "blue"), strict=True):
        with shop.stage.named(name):
            await shop.js.publish(f"{subject}.{color}", name.encode())
    assert await take(shop, subject, "red", 2) == ["a", "c"]
    assert await take(shop, subject, "blue", 1) == ["b"]
    expected = {
        ("a", f"{subject}/red"): "settled", ("c", f"{subject}/red"): "settled",
        ("b", f"{subject}/blue"): "settled", ("d", f"{subject}/blue"): "waiting",
    }  # fmt: skip
    await shop.stage.judged(expected, broker=list(expected))


@pytest.mark.scenario(66, "NATS: settled in another order than handed out")
async def test_settled_in_another_order(shop: Shop) -> None:
    """Behind a message that a silent consumer holds, it may have settled others: only the first is known to be in its hands."""
    await shop.stream()
    legacy = await shop.durable("legacy", ack_wait=300)
    await shop.send("abc")
    assert await take(shop, shop.stage.unique, "legacy", 1, settle="") == ["a"]
    assert await take(shop, shop.stage.unique, "legacy", 2) == ["b", "c"]
    expected = {("a", legacy): "stuck", ("b", legacy): "unknown", ("c", legacy): "unknown"}
    told = await shop.stage.judged(expected, broker=list(expected), deadline_s=0.5)
    assert told["b", legacy].cause == "unknown.partly_settled"


@pytest.mark.scenario(67, "NATS: given up, and later ones settled")
async def test_settled_behind_what_was_given_up(shop: Shop) -> None:
    """One message given up says nothing of those behind it, which are in nobody's hands because they were acknowledged."""
    await shop.stream()
    legacy = await shop.durable("legacy", max_deliver=1, ack_wait=0.5)
    await shop.stage.observe()
    await shop.send("abc")
    assert await take(shop, shop.stage.unique, "legacy", 1, settle="") == ["a"]
    assert await take(shop, shop.stage.unique, "legacy", 2) == ["b", "c"]
    expected = {("a", legacy): "dead_lettered", ("b", legacy): "settled", ("c", legacy): "settled"}
    await shop.stage.judged(expected, broker=list(expected))


@pytest.mark.scenario(68, "NATS: sent to be delivered later")
async def test_scheduled(shop: Shop) -> None:
    """A message that its stream is asked to send later is owed where it will be sent to, and waits on purpose until then."""
    config = {"name": shop.stage.unique, "subjects": [f"{shop.stage.unique}.>"], "allow_msg_schedules": True}
    await shop.client.request(f"$JS.API.STREAM.CREATE.{shop.stage.unique}", json.dumps(config).encode())
    billing = await shop.durable("billing", filter_subject=f"{shop.stage.unique}.due")
    await shop.stage.observe()

    async def send(name: str, at: datetime) -> None:
        headers = {
            "Nats-Schedule": f"@at {at:%Y-%m-%dT%H:%M:%SZ}", "Nats-Schedule-Target": f"{shop.stage.unique}.due",
        }  # fmt: skip
        with shop.stage.named(name):
            await shop.js.publish(f"{shop.stage.unique}.plan.{name}", name.encode(), headers=headers)

    await send("a", datetime.now(UTC) + timedelta(hours=1))
    await send("b", datetime.now(UTC) + timedelta(seconds=1))
    assert await shop.read("billing", 1) == ["b"]
    expected = {("a", billing): "waiting", ("b", billing): "settled"}
    told = await shop.stage.judged(expected, deadline_s=0.5)
    assert told["a", billing].cause == "waiting.delayed"
