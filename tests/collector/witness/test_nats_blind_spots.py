"""What the NATS witness did not hear or may not see: what the server still shows, and no more than that."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from nats_guarded import GuardedNats
from nats_shop import Shop
from scenario_support import watching

from hopwatch.transports.nats import NatsInstrumentor
from hopwatch_demo.patience import scale_wait

pytestmark = pytest.mark.nats


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedNats]:
    """A NATS server of this file's own."""
    GuardedNats.provide()
    nats_server = GuardedNats(Path(tmp_path_factory.mktemp("nats"), "own"))
    nats_server.start()
    yield nats_server
    nats_server.stop(hard=True)


@pytest.fixture
async def shop(stage, server: GuardedNats) -> AsyncIterator[Shop]:
    """A shop on that server with its witness, which may see everything at first."""
    one = stage(server.witness(), NatsInstrumentor())
    client = await nats.connect(
        server.url, reconnect_time_wait=0.1, max_reconnect_attempts=-1, connect_timeout=scale_wait(20)
    )
    await one.observe()
    yield Shop(one, client, client.jetstream(timeout=scale_wait(10)))
    with one.unseen():
        for stream in await client.jetstream(timeout=scale_wait(10)).streams_info():
            await client.jetstream(timeout=scale_wait(10)).delete_stream(stream.config.name)
    await client.close()


async def _give_up(shop: Shop, durable: str) -> None:
    """Have the only delivery that a durable has of its next message end without an acknowledgement."""
    assert await shop.read(durable, 1, settle="nak") == ["a"]
    subscription = await shop.js.pull_subscribe_bind(durable, stream=shop.stage.unique)
    info = await subscription.consumer_info()
    if not info.num_pending:  # only when the next one is asked for does the server find this one used up
        with pytest.raises(nats.errors.TimeoutError):
            await subscription.fetch(1, timeout=0.3)
    await subscription.unsubscribe()


class Away:
    """The collector is away while this is entered: nobody watches, and services tell nothing."""

    def __init__(self, shop: Shop, server: GuardedNats) -> None:
        self._shop, self._server = shop, server

    async def __aenter__(self) -> None:
        await self._shop.stage.observe()
        await self._shop.stage.watch._witness.close()
        self._unseen = self._shop.stage.unseen()
        self._unseen.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self._unseen.__exit__(None, None, None)
        self._shop.stage.watch = watching(self._server.witness(), self._shop.stage.store)


@pytest.fixture
async def away(shop: Shop, server: GuardedNats) -> AsyncIterator[Away]:
    """The collector's absence."""
    yield Away(shop, server)
    await shop.stage.watch._witness.close()


@pytest.mark.scenario(31, "NATS: deliveries used up while nobody listened")
async def test_given_up_unheard_and_shown(shop: Shop, away: Away) -> None:
    """Handed out, not settled and in nobody's hands: given up, though nobody heard the server say so."""
    await shop.stream()
    once = await shop.durable("once", max_deliver=1)
    await shop.send("a")
    async with away:
        await _give_up(shop, "once")
    told = await shop.stage.judged({("a", once): "dead_lettered"}, broker=[("a", once)])
    assert told["a", once].cause == "dead_lettered.max_deliveries"


async def test_ended_unheard_and_not_shown(shop: Shop, away: Away) -> None:
    """Once later ones are acknowledged the server tells nothing apart any more: unknown, what was not heard is named."""
    await shop.stream()
    once = await shop.durable("once", max_deliver=1)
    await shop.send("abcd")
    async with away:
        await _give_up(shop, "once")
        assert await shop.read("once", 1) == ["b"]
        assert await shop.read("once", 1, settle="term") == ["c"]
    expected = {
        ("a", once): "unknown",
        ("b", once): "unknown",
        ("c", once): "unknown",
        ("d", once): "waiting",
    }
    told = await shop.stage.judged(expected, broker=list(expected))
    assert told["a", once].cause == "unknown.missed_advisory"
    assert told["a", once].reason.endswith("was told while the collector was not listening")
    # What happens from now on is heard again.
    with shop.stage.unseen():
        assert await shop.read("once", 1) == ["d"]
    await shop.stage.judged({**expected, ("d", once): "settled"})


async def test_given_up_unheard_in_a_work_queue(shop: Shop, away: Away) -> None:
    """A work queue keeps what was given up and nothing else: dead-lettered; what it let go ended somehow, unknown."""
    await shop.stream(retention="workqueue")
    once = await shop.durable("once", max_deliver=1)
    await shop.send("ab")
    async with away:
        await _give_up(shop, "once")
        assert await shop.read("once", 1) == ["b"]
    expected = {("a", once): "dead_lettered", ("b", once): "unknown"}
    await shop.stage.judged(expected, broker=list(expected))


async def test_what_was_in_hand_meanwhile(shop: Shop, away: Away) -> None:
    """What was in hand when the collector went and still is when it comes back is judged by what is heard then."""
    await shop.stream()
    legacy = await shop.durable("legacy", ack_wait=60)
    await shop.send("ab")
    with shop.stage.unseen():
        subscription = await shop.js.pull_subscribe_bind("legacy", stream=shop.stage.unique)
        first, second = await subscription.fetch(2, timeout=scale_wait(20))
    async with away:
        pass
    await shop.stage.judged({("a", legacy): "in_flight", ("b", legacy): "in_flight"})
    await first.ack_sync()
    await second.term()
    await shop.stage.judged({("a", legacy): "settled", ("b", legacy): "dead_lettered"})


async def test_purge(shop: Shop) -> None:
    """A purge sets consumers behind what it removes: evicted if unread, unknown if it was in hand, and never settled."""
    await shop.stream()
    legacy = await shop.durable("legacy", ack_wait=60)
    await shop.send("abc")
    with shop.stage.unseen():
        subscription = await shop.js.pull_subscribe_bind("legacy", stream=shop.stage.unique)
        (first,) = await subscription.fetch(1, timeout=scale_wait(20))
        assert first.data == b"a"
    await shop.stage.judged({("a", legacy): "in_flight", ("b", legacy): "waiting", ("c", legacy): "waiting"})
    await shop.js.purge_stream(shop.stage.unique)
    await shop.stage.judged({("a", legacy): "unknown", ("b", legacy): "evicted", ("c", legacy): "evicted"})


async def test_only_the_latest_of_a_subject_is_kept(shop: Shop) -> None:
    """What a later message of its subject replaced before it was read is evicted, and does not wait; nor is it settled."""
    await shop.stream(max_msgs_per_subject=1)
    legacy = await shop.durable("legacy")
    with shop.stage.named("other"):
        await shop.js.publish(f"{shop.subject}.other", b"other")
    await shop.send("ab")
    expected = {("other", legacy): "waiting", ("a", legacy): "evicted", ("b", legacy): "waiting"}
    await shop.stage.judged(expected, broker=list(expected))
    with shop.stage.unseen():
        assert await shop.read("legacy", 2) == ["other", "b"]
    await shop.stage.judged({**expected, ("other", legacy): "settled", ("b", legacy): "settled"})


async def test_removed_and_passed_between_two_looks(shop: Shop) -> None:
    """A consumer that went on by as many as it was handed was not handed what was removed: evicted, the others settled."""
    await shop.stream()
    legacy = await shop.durable("legacy")
    await shop.send("abc")
    waiting = dict.fromkeys([(name, legacy) for name in "abc"], "waiting")
    await shop.stage.judged(waiting)
    await shop.js.delete_msg(shop.stage.unique, 2)
    with shop.stage.unseen():
        assert await shop.read("legacy", 2) == ["a", "c"]
    expected = {("a", legacy): "settled", ("b", legacy): "evicted", ("c", legacy): "settled"}
    await shop.stage.judged(expected, broker=list(expected))


async def test_read_and_removed_between_two_looks(shop: Shop) -> None:
    """Of a consumer of some subjects only, whether what is missing was handed out before cannot be told: unknown."""
    await shop.stream()
    legacy = await shop.durable("legacy", filter_subject=shop.subject)
    await shop.send("abc")
    await shop.stage.judged(dict.fromkeys([(name, legacy) for name in "abc"], "waiting"))
    with shop.stage.unseen():
        assert await shop.read("legacy", 3) == ["a", "b", "c"]
    await shop.js.delete_msg(shop.stage.unique, 2)
    expected = {("a", legacy): "settled", ("b", legacy): "unknown", ("c", legacy): "settled"}
    await shop.stage.judged(expected, broker=list(expected))


@pytest.mark.scenario(40, "NATS: witness that may not hear advisories")
async def test_login_may_not_hear_advisories(shop: Shop, server: GuardedNats) -> None:
    """A witness that may not subscribe advisories says so, and knows of nothing how it ended."""
    await shop.stream()
    legacy = await shop.durable("legacy")
    await server.deny(subscribe=["$JS.EVENT.ADVISORY.>"])
    await shop.send("ab")
    with shop.stage.unseen():
        assert await shop.read("legacy", 1, settle="term") == ["a"]
    expected = {("a", legacy): "unknown", ("b", legacy): "waiting"}
    await shop.stage.judged(expected)
    assert "its login may not subscribe $JS.EVENT.ADVISORY.CONSUMER.>" in (shop.stage.watch.trouble or "")
    await server.deny()


@pytest.mark.scenario(40, "NATS: witness without permission")
async def test_login_loses_the_right_to_list(shop: Shop, server: GuardedNats) -> None:
    """Consumers and streams that may not be listed any more are not taken for deleted: unknown, naming the right."""
    await shop.stream()
    billing = await shop.durable("billing")
    await shop.js.add_stream(name=f"{shop.stage.unique}-other", subjects=["other.>"])
    await shop.send("a")
    held = {("a", billing): "overdue"}
    await shop.stage.judged(held, broker=list(held), deadline_s=0.5)
    for subject in (f"$JS.API.CONSUMER.LIST.{shop.stage.unique}", "$JS.API.STREAM.LIST"):
        await server.deny(publish=[subject])
        told = await shop.stage.judged({("a", billing): "unknown"}, deadline_s=0.5)
        assert told["a", billing].cause == "unknown.no_permission"
        assert f"its login may not request {subject}" in told["a", billing].reason
        await server.deny()
        await shop.stage.judged(held, broker=list(held), deadline_s=0.5)
    assert shop.stage.watch.trouble is None


async def test_jetstream_is_off(shop: Shop, server: GuardedNats) -> None:
    """A server that came back without JetStream has deleted nothing."""
    await shop.stream()
    billing = await shop.durable("billing")
    await shop.send("a")
    held = {("a", billing): "overdue"}
    await shop.stage.judged(held, deadline_s=0.5)
    server.write(jetstream=False)
    server.restart()
    told = await shop.stage.judged({("a", billing): "unknown"}, deadline_s=0.5)
    assert "JetStream is off at" in told["a", billing].reason
    server.write()
    server.restart()
    await shop.stage.judged(held, deadline_s=0.5)
