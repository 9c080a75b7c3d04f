"""What becomes of AMQP messages when RabbitMQ or the collector goes away, or when the witness may not see."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import aio_pika
import httpx
import pytest
from courses import Course, Receivers, collector_away, restarted
from ledger_support import T0, judged
from scenario_support import Stage, watching

from hopwatch.transports.aio_pika import AioPikaInstrumentor
from hopwatch_collector.witness.rabbitmq import RabbitMQWitness
from hopwatch_demo.brokers import Brokers
from hopwatch_demo.patience import scale_wait


@pytest.fixture(scope="module")
def own() -> Iterator[Brokers]:
    """A RabbitMQ of this file's own, to be stopped and started."""
    with Brokers.start(["rabbitmq"], environ={}) as brokers:
        yield brokers


async def send(stage: Stage, url: str, exchange: str, names: str) -> None:
    """Publish one message per letter, each kept by the broker."""
    async with await aio_pika.connect(url) as connection:
        hub = await (await connection.channel()).get_exchange(exchange)
        for name in names:
            with stage.named(name):
                await hub.publish(aio_pika.Message(name.encode(), delivery_mode=2), routing_key="")


async def read(url: str, queue: str, count: int) -> list[str]:
    """Have a consumer take and acknowledge so many; its own record of them."""
    async with await aio_pika.connect(url) as connection:
        there = await (await connection.channel()).get_queue(queue)
        got = []
        for _ in range(count):
            message = await there.get(timeout=scale_wait(20))
            assert message is not None
            got.append(message.body.decode())
            await message.ack()
        return got


async def declared(stage: Stage, url: str, *shorts: str) -> tuple[str, list[str]]:
    """A fan-out exchange and queues bound to it, all durable; the witness has seen them."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        hub = await channel.declare_exchange(stage.unique, "fanout", durable=True)
        queues = [f"{stage.unique}-{short}" for short in shorts]
        for queue in queues:
            await (await channel.declare_queue(queue, durable=True)).bind(hub)
    await stage.observe()
    return stage.unique, queues


async def delete(url: str, queue: str) -> None:
    """Delete a queue with all that is in it."""
    async with await aio_pika.connect(url) as connection:
        await (await connection.channel()).queue_delete(queue)


@pytest.mark.rabbitmq
@pytest.mark.scenario(39, "Any: broker restarted in mid-flight")
async def test_restarted_in_mid_flight(stage, own: Brokers) -> None:
    """What RabbitMQ kept over a crash still waits, though all its counters begin anew."""
    url = own.rabbitmq.url
    one = stage(RabbitMQWitness(own.rabbitmq.management_url), AioPikaInstrumentor())
    hub, [billing] = await declared(one, url, "billing")
    course = Course(one, partial(send, one, url, hub), partial(read, url))
    await restarted(
        course, billing, partial(own.stop, "rabbitmq", hard=True), partial(own.restart, "rabbitmq")
    )


@pytest.mark.rabbitmq
@pytest.mark.scenario(41, "Any: collector down for a while")
async def test_collector_down(stage, own: Brokers) -> None:
    """Counters and missing queues tell a collector that comes back what happened to messages meanwhile."""
    url = own.rabbitmq.url
    one = stage(RabbitMQWitness(own.rabbitmq.management_url), AioPikaInstrumentor())
    hub, [billing, legacy, audit] = await declared(one, url, "billing", "legacy", "audit")
    course = Course(one, partial(send, one, url, hub), partial(read, url))
    await collector_away(
        course,
        Receivers(billing, legacy, audit),
        partial(delete, url, audit),
        partial(RabbitMQWitness, own.rabbitmq.management_url),
    )


class Logins:
    """Users of the management API, made and taken back by the administrator."""

    def __init__(self, management_url: str) -> None:
        self._url = httpx.URL(management_url)
        self._http = httpx.AsyncClient(base_url=self._url.copy_with(path="/api/"), timeout=scale_wait(20))

    async def make(self, name: str, tag: str, vhost: str) -> str:
        """The management URL of a new user who may see one virtual host, and read from none of its queues."""
        await self._put(f"users/{name}", password="ri:g%t@", tags=tag)
        await self._put(f"permissions/{vhost}/{name}", configure="", write="", read="")
        return str(self._url.copy_with(userinfo=f"{name}:ri%3Ag%25t%40".encode()))

    async def shut_out(self, name: str, vhost: str) -> None:
        """The user may no longer see the virtual host."""
        (await self._http.delete(f"permissions/{vhost}/{name}")).raise_for_status()

    async def vhost(self, name: str) -> None:
        """Make a virtual host."""
        await self._put(f"vhosts/{name}")

    async def rename(self, name: str) -> None:
        """Give the cluster another name."""
        await self._put("cluster-name", name=name)

    async def _put(self, path: str, **told: str) -> None:
        (await self._http.put(path, json=told)).raise_for_status()

    async def close(self) -> None:
        await self._http.aclose()


@pytest.fixture
async def logins(own: Brokers) -> AsyncIterator[Logins]:
    """Users of this file's RabbitMQ."""
    one = Logins(own.rabbitmq.management_url)
    yield one
    await one.close()


def verdict_at(stage: Stage, now: datetime) -> tuple[str, str]:
    """Verdict and reason of the one delivery of this scenario, as they will be then."""
    found = judged(stage.store, now=(now - T0).total_seconds(), until=1e6)
    [one] = [row for row in found if row["receiver"].startswith(stage.unique)]
    return one["verdict"], one["why"]


@pytest.mark.rabbitmq
async def test_shut_out(stage, own: Brokers, logins: Logins) -> None:
    """A login that loses its virtual host in the middle has seen no queue deleted: unknown, not lost."""
    url = own.rabbitmq.url
    one = stage(RabbitMQWitness(await logins.make("reader", "management", "%2F")), AioPikaInstrumentor())
    hub, [billing] = await declared(one, url, "billing")
    await send(one, url, hub, "a")
    await one.judged({("a", billing): "waiting"}, broker=[("a", billing)])
    await logins.shut_out("reader", "%2F")
    await one.observe()
    assert "permission on the virtual host" in (one.watch.trouble or "")
    verdict, why = verdict_at(one, datetime.now(UTC) + timedelta(minutes=1))
    assert (verdict, why) == ("unknown", f"the broker cannot be asked: {one.watch.trouble}")
    assert await read(url, billing, 1) == ["a"]  # it was there all the time


@pytest.mark.rabbitmq
async def test_another_virtual_host(stage, own: Brokers, logins: Logins) -> None:
    """A collector that watches another virtual host from now on takes no queue of the first for deleted."""
    url = own.rabbitmq.url
    one = stage(RabbitMQWitness(own.rabbitmq.management_url), AioPikaInstrumentor())
    hub, [billing] = await declared(one, url, "billing")
    await send(one, url, hub, "a")
    await one.judged({("a", billing): "waiting"}, broker=[("a", billing)])
    await one.watch._witness.close()
    await logins.vhost("other")
    limited = await logins.make("elsewhere", "monitoring", "other")
    one.watch = watching(RabbitMQWitness(limited, "other"), one.store)
    await one.observe()
    assert one.watch.trouble is None
    assert [str(delivery.verdict) for delivery in one.ledger()] == ["waiting"]
    await asyncio.gather(one.watch._witness.close(), read(url, billing, 1))


@pytest.mark.rabbitmq
async def test_a_cluster_that_is_renamed(stage, own: Brokers, logins: Logins) -> None:
    """Clients that were connected before tell the old name, others the new one: both lead to the broker that is watched."""
    url = own.rabbitmq.url
    one = stage(RabbitMQWitness(own.rabbitmq.management_url), AioPikaInstrumentor())
    async with await aio_pika.connect(url) as before:
        await one.observe()
        await logins.rename("renamed@here")
        await one.observe()
        async with await aio_pika.connect(url) as after:
            names = {_cluster(before), _cluster(after)}
    assert len(names) == 2
    found = one.store._writer.query("SELECT told, name FROM brokers WHERE name != ''").result_rows
    assert set(map(tuple, found)) == {(f"{name}/", one.watch.broker) for name in names}


def _cluster(connection: aio_pika.abc.AbstractConnection) -> str:
    """The cluster's name as a client was told it."""
    told = connection.transport.connection.server_properties["cluster_name"]  # type: ignore[union-attr]
    return told.decode() if isinstance(told, bytes) else str(told)
