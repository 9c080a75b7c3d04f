"""What RabbitMQ's firehose decides that counters and bindings leave open, compared with what services recorded."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aio_pika
import aiormq
import httpx
import pytest
from rabbitmq_shop import Shop
from scenario_support import Stage, until, watching

from hopwatch.transports.aio_pika import AioPikaInstrumentor
from hopwatch_collector.query import Queries
from hopwatch_collector.witness import rabbitmq_listen
from hopwatch_collector.witness.rabbitmq import RabbitMQWitness
from hopwatch_collector.witness.rabbitmq_firehose import RabbitMQFirehose
from hopwatch_collector.witness.watch import Watch
from hopwatch_demo.brokers import Brokers
from hopwatch_demo.patience import scale_wait

VHOST = "traced"
RIGHTS = {"configure": r"^amq\.gen-", "write": r"^amq\.gen-", "read": r"^amq\.(gen-.*|rabbitmq\.trace)$"}
"""What the reader of the firehose may do, and no more."""


class Traced(Shop):
    """A shop in a virtual host of its own, whose firehose is read by a login with as few rights as that takes."""

    firehose: Watch
    http: httpx.AsyncClient

    async def tracing(self, on: bool) -> None:
        """Turn tracing on or off."""
        (await self.http.put(f"vhosts/{VHOST}", json={"tracing": on})).raise_for_status()

    async def heard(self) -> None:
        """Have the firehose's witness write down what it heard."""
        with self.stage.unseen():
            await self.firehose.once()

    async def eat(self, queue: str, *, settle: str = "ack") -> str:
        """Have a consumer that tells nothing take and settle one message; its own record of it."""
        with self.stage.unseen():
            async with await aio_pika.connect(self.url) as connection:
                message = await (await (await connection.channel()).get_queue(queue)).get(
                    timeout=scale_wait(20)
                )
                assert message is not None
                await getattr(message, settle)()
                return message.body.decode()

    url = ""


@pytest.fixture
async def shop(stage, brokers: Brokers, rabbitmq_url: str) -> AsyncIterator[Traced]:
    """The shop, with both witnesses looking whenever the stage observes."""
    management = brokers.rabbitmq.management_url
    async with httpx.AsyncClient(
        timeout=scale_wait(20), base_url=httpx.URL(management).copy_with(path="/api/")
    ) as http:
        made = [
            ("users/reader", {"password": "right", "tags": "monitoring"}),
            (f"vhosts/{VHOST}", {"tracing": True}),
            (f"permissions/{VHOST}/guest", dict.fromkeys(RIGHTS, ".*")),
            (f"permissions/{VHOST}/reader", RIGHTS),
        ]
        for path, told in made:
            (await http.put(path, json=told)).raise_for_status()
        parts = urlsplit(rabbitmq_url)
        url = parts._replace(path=f"/{VHOST}").geturl()
        reader = parts._replace(
            netloc=f"reader:right@{parts.hostname}:{parts.port}", path=f"/{VHOST}"
        ).geturl()
        reading = str(httpx.URL(management).copy_with(userinfo=b"reader:right"))
        one: Stage = stage(RabbitMQWitness(reading, VHOST), AioPikaInstrumentor())
        async with await aio_pika.connect(url) as connection:
            running = Traced(one, await connection.channel(publisher_confirms=True))
            running.http, running.url = http, url
            running.firehose = watching(RabbitMQFirehose(reader, reading), one.store)
            await one.observe()
            await running.heard()
            assert running.firehose.trouble is None
            yield running
        await running.firehose._witness.close()
        (await http.delete(f"vhosts/{VHOST}")).raise_for_status()
        (await http.delete("users/reader")).raise_for_status()


async def judged(shop: Traced, expected: dict[tuple[str, str], str], **more: object) -> dict:
    """Wait until the ledger says so, both witnesses looking."""
    hearing = asyncio.create_task(_hear_on(shop))
    try:
        return await shop.stage.judged(expected, **more)  # type: ignore[arg-type]
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


async def _hear_on(shop: Traced) -> None:
    while True:
        await shop.firehose.once()
        await asyncio.sleep(0.5)


@pytest.mark.scenario(22, "RabbitMQ: headers decide, and the firehose tells")
async def test_headers_are_decided(shop: Traced) -> None:
    """Where headers decide who gets a message, the firehose says who did, and that nobody did."""
    with shop.stage.unseen():
        hub = await shop.exchange("hub", "headers")
        big, small = await shop.queue("big"), await shop.queue("small")
        await big.bind(hub, arguments={"x-match": "all", "size": "big"})
        await small.bind(hub, arguments={"x-match": "all", "size": "small"})
    await shop.stage.observe()
    await shop.send("a", hub, headers={"size": "big"})
    await shop.send("b", hub, headers={"size": "none"}, mandatory=False)
    expected = {("a", big.name): "waiting", ("b", ""): "no_receiver"}
    told = await judged(shop, expected, broker=list(expected))
    assert told["a", big.name].witnesses == ["producer", "broker"]
    assert await shop.eat(big.name) == "a"


@pytest.mark.scenario(
    25, "RabbitMQ: one taken by a consumer that tells nothing, one purged, and the firehose tells which"
)
async def test_shared_queues_are_decided(shop: Traced) -> None:
    """Counters know that one was taken and one purged; the firehose knows which, dead letters or not."""
    plain, dead = await shop.queue("plain"), await shop.queue("dead")
    orders = await shop.queue("orders", x_dead_letter_exchange="", x_dead_letter_routing_key=dead.name)
    await shop.stage.observe()
    await shop.send("ab", plain)
    await shop.send("c", dead)
    await shop.send("d", orders)
    assert await shop.eat(orders.name, settle="reject") == "d"
    assert await shop.eat(plain.name) == "a"
    assert await shop.eat(dead.name) == "c"
    for queue in (plain, dead):
        await queue.purge()
    expected = {
        ("a", plain.name): "settled",
        ("b", plain.name): "lost",
        ("c", dead.name): "settled",
        ("d", orders.name): "unknown",  # in truth rejected, which the firehose does not tell
    }
    told = await judged(shop, expected, broker=list(expected))
    assert told["d", orders.name].reason.startswith("the broker handed it out")
    why = Queries(shop.stage.store).why(told["a", plain.name].message_id)
    assert why is not None
    said = {one.says for one in why.explanations[0].evidence if one.witness == "broker"}
    assert {
        f"the broker routed it to {plain.name}", f"the broker handed it out from {plain.name}",
        f"somebody published it to {plain.name}",
    } <= said  # fmt: skip


@pytest.mark.scenario(14, "RabbitMQ: sent and read by services that tell nothing, on the firehose's word")
async def test_nobody_is_instrumented(shop: Traced) -> None:
    """A message of services that nobody instrumented is found by the id its sender gave it, and judged."""
    orders = await shop.queue("orders")
    await shop.stage.observe()
    with shop.stage.unseen():
        await shop.send("a", orders, message_id=f"order-{shop.stage.unique}")
    assert await shop.eat(orders.name) == "a"

    async def settled() -> bool:
        await shop.stage.observe()
        await shop.firehose.once()
        found = [one for one in shop.stage._deliveries(30.0, None) if one.receiver == orders.name]
        return [(str(one.verdict), one.witnesses) for one in found] == [("settled", ["broker"])]

    await until(settled, "the ledger to say so")
    key = shop.stage.store.query("message_keys", {"alias": f"order-{shop.stage.unique}"})
    assert len(key) == 1


async def test_what_was_not_heard_decides_nothing(shop: Traced) -> None:
    """While tracing is off the witness says so, and that a message was not seen handed out is no proof of anything."""
    orders = await shop.queue("orders")
    await shop.stage.observe()
    await shop.send("ab", orders)
    await shop.heard()
    await shop.tracing(on=False)
    await shop.heard()
    assert "rabbitmqctl trace_on" in (shop.firehose.trouble or "")
    assert await shop.eat(orders.name) == "a"
    await orders.purge()
    expected = {("a", orders.name): "unknown", ("b", orders.name): "unknown"}
    await judged(shop, expected, broker=list(expected))
    await shop.tracing(on=True)
    await shop.heard()
    assert shop.firehose.trouble is None


async def test_a_firehose_too_fast_is_told(shop: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may have been dropped because it was not read in time is said, and reading goes on."""
    monkeypatch.setattr(rabbitmq_listen, "LONGEST", 20)
    await shop.firehose._witness.close()
    await shop.heard()
    orders = await shop.queue("orders")
    await shop.send("a" * 30, orders)

    async def missed() -> bool:
        await shop.heard()
        return "faster than it could be read" in (shop.firehose.trouble or "")

    await until(missed, "the witness to say so")
    await until(lambda: _trouble(shop), "the witness to see again")


async def _trouble(shop: Traced) -> bool:
    await shop.heard()
    return shop.firehose.trouble is None


async def test_a_broken_firehose_is_told_and_listened_to_again(shop: Traced) -> None:
    """When its queue is deleted or its connection cut the witness says so once, and then it listens again."""
    witness = shop.firehose._witness
    [own] = await _connections(shop)
    (await shop.http.delete(f"connections/{own}")).raise_for_status()
    channel: aiormq.abc.AbstractChannel = witness._listener.channel  # type: ignore[attr-defined]
    await until(lambda: channel.is_closed, "the connection to be cut")
    await shop.heard()
    await until(lambda: _trouble(shop), "the witness to listen again")
    assert witness._listener.channel is not channel  # type: ignore[attr-defined]


async def _connections(shop: Traced) -> list[str]:
    """The firehose's own connections, once the management API lists them."""
    found: list[str] = []

    async def listed() -> bool:
        told = (await shop.http.get("connections", params={"columns": "name,user"})).json()
        found[:] = [one["name"] for one in told if one.get("user") == "reader"]
        return len(found) == 1

    await until(listed, "the connection to be listed")
    return found
