"""Receivers that the team declares, on real brokers: there, not there, and no longer declared."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import nats
import pytest
from kafka_shop import Shop as KafkaShop
from nats.aio.msg import Msg
from nats_shop import Shop as NatsShop
from rabbitmq_shop import Shop as RabbitMQShop
from rabbitmq_shop import shop as rabbitmq_shop
from scenario_support import Stage, until

from hopwatch.transports.aiokafka import AioKafkaInstrumentor
from hopwatch.transports.nats import NatsInstrumentor
from hopwatch.wrapping import service_name
from hopwatch_collector.expects import declare, load
from hopwatch_collector.query import Queries
from hopwatch_collector.settings import Settings
from hopwatch_collector.witness.kafka import KafkaWitness
from hopwatch_collector.witness.nats import NatsWitness
from hopwatch_demo.patience import scale_wait

__all__ = ["rabbitmq_shop"]

Start = Callable[[Stage, str], None]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """What a start of the collector with this configuration file does: `start(stage, "expects: []")`."""

    def started(stage: Stage, text: str) -> None:
        path = tmp_path / "hopwatch.yaml"
        path.write_text(text, "utf-8")
        declare(stage.store, load(Settings(config=path)))

    return started


@pytest.fixture
async def nats_shop(stage, brokers, nats_url: str) -> AsyncIterator[NatsShop]:
    """A shop on NATS with its witness."""
    one = stage(NatsWitness(nats_url, brokers.nats.monitoring_url), NatsInstrumentor())
    client = await nats.connect(nats_url, connect_timeout=scale_wait(20))
    await one.observe()
    yield NatsShop(one, client, client.jetstream(timeout=scale_wait(10)))
    with one.unseen():
        await client.jetstream(timeout=scale_wait(10)).delete_stream(one.unique)
    await client.close()


async def test_on_rabbitmq(rabbitmq_shop: RabbitMQShop, start: Start) -> None:
    """Of two declared queues one is bound and reads, one is there and not bound: it was never owed a copy by the broker."""
    shop = rabbitmq_shop
    hub, bills, mail = (
        await shop.exchange("hub", "topic"),
        await shop.queue("bills"),
        await shop.queue("mail"),
    )
    await bills.bind(hub, "order.*")
    declared = "expects: [{system: rabbitmq, destination: '%s:order.#', receiver: [%s]}]"
    start(shop.stage, declared % (hub.name, f"{bills.name}, {mail.name}"))
    await shop.stage.observe()
    await shop.send("a", hub, "order.new")
    assert await shop.read(bills, 1) == ["a"]
    first = {("a", bills.name): "settled", ("a", mail.name): "no_receiver"}
    told = await shop.stage.judged(first, broker=[("a", mail.name)])
    assert "declared" in told["a", mail.name].reason
    assert [one.declared for one in told.values()] == [True, True]

    start(shop.stage, declared % (hub.name, bills.name))
    await shop.send("b", hub, "order.new")
    assert await shop.read(bills, 1) == ["b"]
    await shop.stage.judged(first | {("b", bills.name): "settled"})


async def test_on_kafka(stage, kafka_bootstrap: str, start: Start) -> None:
    """A declared group that has never been there is named; once it comes and reads from the start, it got the record."""
    shop = KafkaShop(stage(KafkaWitness(kafka_bootstrap), AioKafkaInstrumentor()), kafka_bootstrap)
    start(shop.stage, f"expects: [{{system: kafka, destination: {shop.topic}, receiver: [billing, audit]}}]")
    await shop.send("a")
    assert await shop.read("billing", 1) == ["a"]
    told = await shop.stage.judged(
        {("a", "billing"): "settled", ("a", "audit"): "no_receiver"}, broker=[("a", "audit")]
    )
    why = Queries(shop.stage.store).why(told["a", "audit"].message_id)
    assert why is not None
    (audit,) = (one for one in why.explanations if one.receiver == "audit")
    assert ("declaration", f"audit is owed {shop.topic}, as declared: expects in hopwatch.yaml") in [
        (one.witness, one.says) for one in audit.evidence
    ]
    assert await shop.read("audit", 1) == ["a"]
    await shop.stage.judged({("a", "billing"): "settled", ("a", "audit"): "settled"})


async def test_on_nats(nats_shop: NatsShop, start: Start) -> None:
    """Consumers of streams, queue groups and plain subscribers are declared as the ledger spells them."""
    shop = nats_shop
    got: list[str] = []

    async def handle(message: Msg) -> None:
        got.append(message.data.decode())

    await shop.stream()
    billing = await shop.durable("billing")
    absent, prices = f"{shop.stage.unique}/audit", f"prices.{shop.stage.unique}"
    expects = f"""
expects:
  - {{system: nats, destination: '{shop.stage.unique}.>', receiver: [{billing}, {absent}]}}
  - {{system: nats, destination: {prices}, service: {service_name()}}}
  - {{system: nats, destination: {prices}, receiver: mailers}}
"""
    start(shop.stage, expects)
    await shop.client.subscribe(prices, cb=handle)
    await shop.client.flush()
    await shop.stage.observe()
    await shop.send("a")
    with shop.stage.named("p"):
        await shop.client.publish(prices, b"p")
    assert await shop.read("billing", 1) == ["a"]
    await until(lambda: got == ["p"], "the plain message")
    first = {
        ("a", billing): "settled", ("a", absent): "no_receiver",
        ("p", f"{service_name()}:{prices}"): "settled", ("p", "mailers"): "no_receiver",
    }  # fmt: skip
    await shop.stage.judged(first, broker=[("a", absent), ("p", "mailers")])

    start(shop.stage, "expects: []")
    await shop.send("b")
    assert await shop.read("billing", 1) == ["b"]
    await shop.stage.judged(first | {("b", billing): "settled"})
