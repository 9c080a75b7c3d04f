"""Which server a message is of: told with every hop and report, and told anew after a reconnection to another."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from transport_support import TIMEOUT_S

from hopwatch import reports
from hopwatch.conventions import BROKER, MEMBER, REPORT, SUBSCRIPTION_PATTERN
from hopwatch.transports.nats import NatsInstrumentor
from hopwatch_demo.brokers.nats import Nats


async def told_by(url: str) -> str:
    """Return the id that a server tells whoever connects."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    info = await reader.readline()
    writer.close()
    return str(json.loads(info.removeprefix(b"INFO "))["server_id"])


def brokers_of(hops: Any) -> set[Any]:
    """Return what all spans but a test's own say of their broker."""
    return {(span.attributes or {}).get(BROKER) for span in hops.all()}


@pytest.mark.parametrize("provider_kind", ["lean", "sdk"])
async def test_every_hop_and_report_names_the_server(
    js: Any, client: Client, nats_url: str, unique: str, hops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Core and JetStream, sends, attempts and what comes later, whoever's provider records it."""
    monkeypatch.setattr(reports, "OPEN_AFTER_S", 0.0)
    plain = await client.subscribe(f"{unique}-core", queue="workers")
    pull = await js.pull_subscribe(f"{unique}.>", durable="d")
    await client.publish(f"{unique}-core", b"1")
    await plain.next_msg(timeout=TIMEOUT_S)

    async def answer(message: Msg) -> None:
        await message.respond(b"yes")

    asked = await client.subscribe(f"{unique}-ask", cb=answer)
    await client.request(f"{unique}-ask", b"2", timeout=TIMEOUT_S)
    await js.publish(f"{unique}.x", b"3")
    [message] = await pull.fetch(1, timeout=TIMEOUT_S)
    await hops.until(lambda: hops.reports("open"))
    await message.ack()
    for subscription in (plain, asked):
        await subscription.unsubscribe()
    await hops.processed(4)
    assert {str((span.attributes or {}).get(REPORT)) for span in hops.all()} == {
        "None",
        "subscribe",
        "unsubscribe",
        "open",
    }
    assert brokers_of(hops) == {await told_by(nats_url)}


async def test_a_subscription_names_its_connection(
    client: Client, js: Any, nats_url: str, unique: str, hops: Any
) -> None:
    """As the server lists it; one that is owed what it missed keeps its title without the connection."""
    other = await nats.connect(nats_url, connect_timeout=TIMEOUT_S)
    server = await told_by(nats_url)
    one, two = (
        await client.subscribe(unique, queue="workers"),
        await other.subscribe(unique, queue="workers"),
    )
    assert [report[MEMBER] for report in hops.reports("subscribe")] == [
        f"{server}:{client.client_id}",
        f"{server}:{other.client_id}",
    ]
    await one.unsubscribe()
    assert hops.reports("unsubscribe") == []
    await two.unsubscribe()
    [gone] = hops.reports("unsubscribe")
    assert (gone[BROKER], gone[MEMBER]) == (server, f"{server}:{other.client_id}")
    pull = await js.pull_subscribe(f"{unique}.>", durable="d")
    assert hops.reports("subscribe")[-1][MEMBER] == f"{server}:{client.client_id}"
    await pull.unsubscribe()
    assert len(hops.reports("unsubscribe")) == 1
    await js.delete_consumer(unique, "d")
    assert [report[SUBSCRIPTION_PATTERN] for report in hops.reports("unsubscribe")] == [unique, f"{unique}.>"]
    await other.close()


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[list[Nats]]:
    """Two servers that know nothing of each other."""
    started = [Nats(tmp_path / name) for name in ("one", "two")]
    for server in started:
        await asyncio.to_thread(server.start)
    yield started
    for server in started:
        await asyncio.to_thread(server.stop)


async def test_a_server_reached_by_reconnecting_is_told_from_then_on(
    servers: list[Nats], unique: str, hops: Any
) -> None:
    """On subjects that were used before too, and subscriptions are reported again at once."""
    one, two = [server.broker().url for server in servers]
    ids = [await told_by(one), await told_by(two)]
    NatsInstrumentor().instrument(skip_dep_check=True)
    client = await nats.connect(
        [one, two], dont_randomize=True, reconnect_time_wait=0.05, connect_timeout=TIMEOUT_S
    )
    try:
        plain = await client.subscribe(unique)

        async def exchange() -> None:
            await client.publish(unique, b"1")
            await plain.next_msg(timeout=TIMEOUT_S)

        await exchange()
        first = f"{ids[0]}:{client.client_id}"
        await asyncio.to_thread(servers[0].stop)
        await until(lambda: client.is_connected and client.connected_url.netloc == urlsplit(two).netloc)
        await exchange()
        second = f"{ids[1]}:{client.client_id}"
        await plain.unsubscribe()
    finally:
        await client.close()
        NatsInstrumentor().uninstrument()
    hopped = [span for span in hops.all() if REPORT not in span.attributes]
    assert [span.attributes[BROKER] for span in hopped] == [ids[0], ids[0], ids[1], ids[1]]
    begun, [ended] = hops.reports("subscribe"), hops.reports("unsubscribe")
    assert [(report[BROKER], report[MEMBER]) for report in begun] == [
        (ids[0], first),
        (ids[1], second),
    ]
    assert ended[BROKER] == ids[1]


async def until(condition: Callable[[], object]) -> None:
    """Wait for something."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.01)
