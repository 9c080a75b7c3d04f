"""Where AMQP messages go: unroutable ones, alternate exchanges, topics and headers, on RabbitMQ's own word."""

import pytest
from rabbitmq_shop import Shop, shop

__all__ = ["shop"]


@pytest.mark.scenario(19, "RabbitMQ: unroutable, mandatory")
async def test_returned(shop: Shop) -> None:
    """A mandatory message that no binding lets through comes back."""
    hub = await shop.exchange("hub", "topic")
    await shop.send("a", hub, "nobody.cares")
    told = await shop.stage.judged({("a", ""): "returned"})
    assert "NO_ROUTE" in told["a", ""].reason


@pytest.mark.scenario(20, "RabbitMQ: unroutable, not mandatory")
async def test_no_receiver(shop: Shop) -> None:
    """A message that is not mandatory and that no binding lets through has no receiver, says the broker."""
    hub = await shop.exchange("hub", "topic")
    await shop.send("a", hub, "nobody.cares", mandatory=False)
    await shop.stage.judged({("a", ""): "no_receiver"}, broker=[("a", "")])


@pytest.mark.scenario(21, "RabbitMQ: alternate exchange")
async def test_alternate(shop: Shop) -> None:
    """What an exchange cannot route is owed to the queues of its alternate exchange, and nothing else is."""
    with shop.stage.unseen():
        spare = await shop.exchange("spare", "fanout")
        hub = await shop.exchange("hub", "direct", alternate_exchange=spare.name)
        known, rest = await shop.queue("known"), await shop.queue("rest")
        await known.bind(hub, "known")
        await rest.bind(spare)
    await shop.stage.observe()
    await shop.send("a", hub, "known")
    await shop.send("b", hub, "other")
    await shop.stage.judged(
        {("a", known.name): "waiting", ("b", rest.name): "waiting"},
        broker=[("a", known.name), ("b", rest.name)],
    )


@pytest.mark.scenario(22, "RabbitMQ: topics, known from the broker alone")
async def test_topics(shop: Shop) -> None:
    """Topic bindings that no instrumented service made are known from the broker, colons in names included."""
    with shop.stage.unseen():
        hub = await shop.exchange("Shop.Orders:Placed", "topic")
        every, one, tail = await shop.queue("every"), await shop.queue("one"), await shop.queue("tail")
        await every.bind(hub, "#")
        await one.bind(hub, "*.placed")
        await tail.bind(hub, "eu.#")
    await shop.stage.observe()
    await shop.send("a", hub, "eu.placed")
    await shop.send("b", hub, "eu")
    await shop.send("c", hub, "")
    pairs = [("a", every), ("a", one), ("a", tail), ("b", every), ("b", tail), ("c", every)]
    await shop.stage.judged({(name, queue.name): "waiting" for name, queue in pairs})


@pytest.mark.scenario(22, "RabbitMQ: headers decide")
async def test_headers(shop: Shop) -> None:
    """Where headers decide who gets a message, the ledger does not claim that nobody was owed it."""
    with shop.stage.unseen():
        hub = await shop.exchange("hub", "headers")
        big = await shop.queue("big")
        await big.bind(hub, arguments={"x-match": "all", "size": "big"})
    await shop.stage.observe()
    await shop.send("a", hub, headers={"size": "small"}, mandatory=False)
    await shop.send("b", hub, headers={"size": "big"})
    told = await shop.stage.judged({("a", ""): "unknown", ("b", ""): "unknown"})
    assert "headers" in told["a", ""].reason
    assert await shop.read(big, 1) == ["b"]
    await shop.stage.judged({("a", ""): "unknown", ("b", big.name): "settled"})
