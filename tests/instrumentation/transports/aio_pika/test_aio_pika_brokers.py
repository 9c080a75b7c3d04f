"""Which broker and virtual host a message is of; and that the broker's list of clients shows who is instrumented."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aio_pika
import aiormq
import httpx
import pytest
from transport_support import TIMEOUT_S, publish

from hopwatch import reports
from hopwatch.conventions import BROKER, MEMBER, REPORT
from hopwatch_demo.brokers import Brokers

Management = httpx.AsyncClient


@pytest.fixture
async def management(brokers: Brokers, rabbitmq_url: str) -> AsyncIterator[Management]:
    """The broker's own word."""
    url = httpx.URL(brokers.rabbitmq.management_url)
    async with httpx.AsyncClient(base_url=url, auth=(url.username, url.password)) as client:
        yield client


@pytest.fixture
async def vhost(management: Management, unique: str) -> AsyncIterator[str]:
    """A virtual host of the test's own, whose name begins with a slash."""
    name = f"/{unique}"
    path = f"/api/vhosts/{quote(name, safe='')}"
    (await management.put(path)).raise_for_status()
    granted = {"configure": ".*", "write": ".*", "read": ".*"}
    login = f"/api/permissions/{quote(name, safe='')}/guest"
    (await management.put(login, json=granted)).raise_for_status()
    yield name
    await management.delete(path)


async def cluster_of(management: Management) -> str:
    """Return the cluster's name."""
    return str((await management.get("/api/overview")).json()["cluster_name"])


@pytest.mark.parametrize("provider_kind", ["lean", "sdk"])
async def test_every_hop_and_report_names_the_broker(
    channel: Any, management: Management, unique: str, hops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sends, attempts and what comes later, whoever's provider records it; the virtual host `/` is written as nothing."""
    monkeypatch.setattr(reports, "OPEN_AFTER_S", 0.0)
    queue = await channel.declare_queue(unique, exclusive=True)
    exchange = await channel.declare_exchange(f"{unique}-x", "topic", auto_delete=True)
    await queue.bind(exchange, "order.*")
    await publish(channel, unique)
    message = await queue.get()
    await hops.until(lambda: hops.reports("open"))
    await message.ack()
    transacted = await channel._connection.channel(publisher_confirms=False)
    async with transacted.transaction():
        await publish(transacted, unique)
    taken: list[Any] = []

    async def take(message: Any) -> None:
        taken.append(message)

    await queue.consume(take)
    await hops.processed(2)
    await taken[0].reject()
    await queue.delete(if_unused=False, if_empty=False)
    await hops.until(lambda: hops.reports("unsubscribe"))
    assert {str(span.attributes.get(REPORT)) for span in hops.all()} == {
        "None",
        "open",
        "subscribe",
        "unsubscribe",
    }
    assert len(hops.settles()) == 1
    assert {span.attributes.get(BROKER) for span in hops.all()} == {f"{await cluster_of(management)}/"}


async def test_queues_of_one_name_in_two_virtual_hosts_are_two(
    connection: Any, rabbitmq_url: str, management: Management, vhost: str, unique: str, hops: Any
) -> None:
    """What is told of one says nothing of the other."""
    cluster = await cluster_of(management)
    there = await aio_pika.connect_robust(rabbitmq_url.removesuffix("%2F") + quote(vhost, safe=""))
    try:
        one = await (await connection.channel()).declare_queue(unique)
        two = await (await there.channel()).declare_queue(unique)
        await publish(one.channel, unique)
        await publish(two.channel, unique)
        await publish(one.channel, unique)
        names = [f"{cluster}/", f"{cluster}/{vhost}"]
        assert [send.attributes[BROKER] for send in hops.sends()] == [*names, names[0]]
        assert [report[BROKER] for report in hops.reports("subscribe")] == names
        await one.delete(if_unused=False, if_empty=False)
        assert [report[BROKER] for report in hops.reports("unsubscribe")] == names[:1]
        await two.delete(if_unused=False, if_empty=False)
        assert [report[BROKER] for report in hops.reports("unsubscribe")] == names
    finally:
        await there.close()


async def test_a_broker_that_tells_no_cluster_is_not_named(
    connection: Any, rabbitmq_url: str, unique: str, hops: Any
) -> None:
    """Brokers of other makes speak AMQP too; told by its next connection, it is named from there on."""
    silent = await aio_pika.connect_robust(rabbitmq_url, reconnect_interval=0.05)
    try:
        silent.transport.connection.server_properties = {
            name: value
            for name, value in silent.transport.connection.server_properties.items()
            if name != "cluster_name"
        }
        channel = await silent.channel()
        queue = await channel.declare_queue(unique)
        await publish(channel, unique)
        assert hops.reports("subscribe")
        assert not any(BROKER in span.attributes for span in hops.all())
        await silent.reconnect()
        await asyncio.wait_for(channel.ready(), TIMEOUT_S)
        await publish(channel, unique)
        assert BROKER in hops.sends()[-1].attributes
        assert BROKER in hops.reports("subscribe")[-1]
        await queue.delete(if_unused=False, if_empty=False)
    finally:
        await silent.close()


async def test_the_broker_lists_who_tells(
    rabbitmq_url: str, connection: Any, management: Management, unique: str, hops: Any
) -> None:
    """The mark is in what the broker shows of a client; what the application says of its client stays as it was."""
    own = {"client_properties": {"team": "billing", "connection_name": unique}}
    url = f"{rabbitmq_url}?name={unique}"
    named = await aio_pika.connect_robust(url, **own)
    try:
        await (await named.channel()).declare_queue(unique, exclusive=True)
        member = hops.reports("subscribe")[-1][MEMBER]
        shown = await listed(management, unique)
        assert shown["hopwatch"] == {"instance": member}
        assert (shown["team"], shown["product"]) == ("billing", aiormq.connection.PRODUCT)
        assert own == {"client_properties": {"team": "billing", "connection_name": unique}}
    finally:
        await named.close()


async def listed(management: Management, name: str) -> dict[str, Any]:
    """Return the client properties of a connection once the broker's statistics have it."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            for one in (await management.get("/api/connections")).json():
                properties: dict[str, Any] = one.get("client_properties", {})
                if properties.get("connection_name") == name:
                    return properties
            await asyncio.sleep(0.1)
