"""Queues and bindings that come and go between two looks, told at the true moment by RabbitMQ's events."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rabbitmq_shop import Shop
from scenario_support import until

from hopwatch.transports.aio_pika import AioPikaInstrumentor
from hopwatch_collector.witness import rabbitmq_management
from hopwatch_collector.witness.model import Place
from hopwatch_collector.witness.rabbitmq import RabbitMQWitness
from hopwatch_collector.witness.rabbitmq_events import Moments, RabbitMQEvents
from hopwatch_demo.brokers import Brokers

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
async def shop(stage, brokers: Brokers, rabbitmq_url: str) -> AsyncIterator[Shop]:
    """A shop whose witness hears events; nothing else tells of queues and bindings."""
    witness = RabbitMQWitness(brokers.rabbitmq.management_url, "/", RabbitMQEvents(rabbitmq_url, "/"))
    one = stage(witness, AioPikaInstrumentor())
    async with await aio_pika.connect(rabbitmq_url) as connection:
        running = Shop(one, await connection.channel(publisher_confirms=True))
        await one.observe()
        assert one.watch.trouble is None
        with one.unseen():
            yield running
        for exchange in running.exchanges:
            await running.channel.exchange_delete(exchange.name)
        for queue in running.queues:
            await running.channel.queue_delete(queue.name)


def heard(shop: Shop) -> Moments:
    """What the witness has heard since its last look."""
    return shop.stage.watch._witness._events._moments  # type: ignore[attr-defined]


async def send(shop: Shop, name: str, exchange: Any, key: str = "") -> None:
    """Send one message as an instrumented service does; what else the shop does is not instrumented."""
    shop.stage.instrumentor.instrument(tracer_provider=shop.stage.provider, skip_dep_check=True)
    try:
        with shop.stage.named(name):
            await exchange.publish(aio_pika.Message(name.encode()), routing_key=key, mandatory=False)
    finally:
        shop.stage.instrumentor.uninstrument()


@pytest.mark.scenario(25, "RabbitMQ: queues that come and go between two looks, told by events")
async def test_between_two_looks(shop: Shop) -> None:
    """Who was bound when a message was sent is owed it, though nobody looked; who was bound later or no longer is not."""
    hub = await shop.exchange("hub", "topic")
    await shop.stage.observe()
    early, brief = await shop.queue("early"), await shop.queue("brief")
    await early.bind(hub, "order.*")
    await brief.bind(hub, "order.#")
    await send(shop, "a", hub, "order.placed")
    await brief.delete(if_unused=False, if_empty=False)
    late = await shop.queue("late")
    await late.bind(hub, "order.placed")
    await send(shop, "b", hub, "order.placed")
    await until(lambda: (hub.name, late.name, "order.placed") in heard(shop).created, "all to be heard")
    expected = {
        ("a", early.name): "waiting", ("b", early.name): "waiting", ("b", late.name): "waiting",
        ("a", brief.name): "lost",
    }  # fmt: skip
    await shop.stage.judged(expected, broker=list(expected))


@pytest.mark.scenario(25, "RabbitMQ: deleted and declared anew between two looks, told by events")
async def test_declared_anew_between_two_looks(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was in a queue when it was deleted is lost, what came into the one of that name waits; no look saw it gone."""
    orders = await shop.queue("orders")
    await shop.stage.observe()
    await send(shop, "a", shop.channel.default_exchange, orders.name)
    await shop.stage.judged({("a", orders.name): "waiting"}, broker=[("a", orders.name)])
    await orders.delete(if_unused=False, if_empty=False)
    await shop.queue("orders")
    await until(
        lambda: (orders.name,) in heard(shop).deleted and (orders.name,) in heard(shop).created, "both"
    )
    monkeypatch.setattr(rabbitmq_management, "LARGEST", 1)
    await shop.stage.observe()  # comes to nothing, and what was heard is kept for the next
    assert "more than" in (shop.stage.watch.trouble or "")
    monkeypatch.undo()
    await send(shop, "b", shop.channel.default_exchange, orders.name)
    expected = {("a", orders.name): "lost", ("b", orders.name): "waiting"}
    told = await shop.stage.judged(expected, broker=list(expected))
    assert told["a", orders.name].cause == "lost.recreated"
    found = shop.stage.store._writer.query(
        "SELECT incarnation, state = 'gone', argMin(published, at) FROM receiver_states WHERE receiver = {queue:String} "
        "GROUP BY ALL ORDER BY min(at)",
        parameters={"queue": orders.name},
    ).result_rows
    # Each begins with nothing in it, at the moment at which it was declared.
    (first, *there), (former, gone, _), (second, *again) = found
    assert (there, former, gone, again) == ([0, 0], first, 1, [0, 0])
    assert shop.stage.began.timestamp() * 1000 <= int(first) < int(second)


async def test_events_that_cannot_be_heard_are_told(stage, brokers: Brokers, rabbitmq_url: str) -> None:
    """Without events all else is still seen, and why there are none is said."""
    wrong = rabbitmq_url.replace("guest:guest", "guest:wrong")
    witness = RabbitMQWitness(brokers.rabbitmq.management_url, "/", RabbitMQEvents(wrong, "/"))
    one = stage(witness, AioPikaInstrumentor())
    async with await aio_pika.connect(rabbitmq_url) as connection:
        queue = await (await connection.channel()).declare_queue(one.unique, exclusive=True)
        await one.observe()
        assert Place(queue.name) in (await witness.look()).positions
    assert "no events: RabbitMQ at 127.0.0.1" in (one.watch.trouble or "")


def queue_event(name: object, vhost: object = "/") -> dict[str, object]:
    """Headers of an event about a queue."""
    return {"name": name, "vhost": vhost}


@pytest.mark.parametrize(
    ("routing_key", "headers"),
    [
        ("queue.created", None),
        ("queue.created", queue_event(None)),
        ("queue.created", queue_event("x" * 600)),
        ("queue.created", queue_event("other", "/elsewhere")),
        ("queue.created", queue_event("other", ["/"])),
        ("queue.stats", queue_event("orders")),
        ("binding.created", {"vhost": "/", "destination_kind": "exchange", "destination_name": "hub"}),
        ("binding.created", {"vhost": "/", "destination_kind": "queue", "destination_name": 7}),
        ("consumer.created", {"vhost": "/", "queue": "orders"}),
        ("", {}),
    ],
)
def test_events_of_other_things_are_passed_over(routing_key: str, headers: object) -> None:
    """So are those of other virtual hosts, and those that make no sense."""
    moments = Moments()
    moments.take(routing_key, headers, "/", AT)
    assert moments == Moments()


@given(st.sampled_from(["queue.created", "queue.deleted", "binding.created"]), st.dictionaries(
    st.sampled_from(["name", "vhost", "destination_kind", "destination_name", "source_name", "routing_key"]),
    st.none() | st.integers() | st.just("/") | st.just("queue") | st.text() | st.lists(st.text()),
))  # fmt: skip
def test_any_event_can_be_taken(routing_key: str, headers: dict[str, object]) -> None:
    """Whatever an event's headers are, what is kept are names."""
    moments = Moments()
    moments.take(routing_key, headers, "/", AT)
    assert all(isinstance(name, str) for thing in (*moments.created, *moments.deleted) for name in thing)
