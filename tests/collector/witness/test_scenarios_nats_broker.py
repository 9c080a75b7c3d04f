"""What can be said of NATS messages when the server tells little, or of clients that only it knows of."""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping

import nats
import pytest
from nats.aio.msg import Msg
from nats_shop import Shop
from scenario_support import until, watching

from hopwatch.transports.nats import NatsInstrumentor
from hopwatch.wrapping import service_name
from hopwatch_collector.witness.model import Claim, Look, Place, Position
from hopwatch_collector.witness.nats import NatsWitness
from hopwatch_demo.brokers import Brokers
from hopwatch_demo.patience import scale_wait


@pytest.fixture
def own() -> Iterator[Brokers]:
    """A NATS server of this test's own."""
    with Brokers.start(["nats"], required=["nats"], environ={}) as brokers:
        yield brokers


@pytest.fixture
async def shop(stage, own: Brokers) -> AsyncIterator[Shop]:
    """A shop on that server, with its witness."""
    one = stage(NatsWitness(own.nats.url, own.nats.monitoring_url), NatsInstrumentor())
    client = await nats.connect(
        own.nats.url, reconnect_time_wait=0.1, max_reconnect_attempts=-1, connect_timeout=scale_wait(20)
    )
    await one.observe()
    yield Shop(one, client, client.jetstream(timeout=scale_wait(10)))
    await client.close()


@pytest.mark.scenario(40, "NATS: monitoring endpoint not given")
async def test_no_monitoring(stage, own: Brokers) -> None:
    """Without the monitoring endpoint nobody can tell that a plain subject has no subscriber: unknown, and why."""
    one = stage(NatsWitness(own.nats.url), NatsInstrumentor())
    client = await nats.connect(own.nats.url, connect_timeout=scale_wait(20))
    shop = Shop(one, client, client.jetstream(timeout=scale_wait(10)))
    await shop.stream()
    billing = await shop.durable("billing")
    await one.observe()
    await shop.send("b")
    with one.named("a"):
        await client.publish(f"plain.{one.unique}", b"a")
    await client.flush()
    told = await one.judged({("a", ""): "unknown", ("b", billing): "waiting"}, broker=[("b", billing)])
    assert "--watch-nats-monitoring" in told["a", ""].reason
    assert "--watch-nats-monitoring" in (one.watch.trouble or "")
    await client.close()


async def test_plain_subscriber_is_one_receiver(shop: Shop) -> None:
    """An instrumented plain subscriber is itself and not its connection too; one that tells nothing is a client."""
    got: list[bytes] = []

    async def handle(message: Msg) -> None:
        got.append(message.data)

    seen, unseen = f"plain.{shop.stage.unique}.seen", f"plain.{shop.stage.unique}.unseen"
    with shop.stage.unseen():
        legacy = await nats.connect(
            shop.client.connected_url.geturl(), name="legacy", connect_timeout=scale_wait(20)
        )
        await legacy.subscribe(unseen, cb=handle)
        await legacy.flush()
    await shop.client.subscribe(seen, cb=handle)
    await shop.client.flush()
    await shop.stage.observe()
    for name, subject in (("a", seen), ("b", unseen)):
        with shop.stage.named(name):
            await shop.client.publish(subject, name.encode())
    await until(lambda: len(got) == 2, "both messages")
    expected = {("a", f"{service_name()}:{seen}"): "settled", ("b", f"client legacy:{unseen}"): "unknown"}
    await shop.stage.judged(expected, deadline_s=0.5)
    await legacy.close()


async def test_nothing_is_taken_back_unseen(store) -> None:
    """A look that could not list everything ends no title and declares no receiver deleted."""
    place, claim = Place("ORDERS/billing", "ORDERS"), Claim("orders.>", "ORDERS/billing")
    looks = [
        Look(frozenset({claim}), {place: Position(next=1)}),
        Look(partial=True),
        Look(),
    ]

    class Seer:
        system = "nats"
        broker = "elsewhere:4222"

        async def look(self) -> Look:
            return looks.pop(0)

        async def hidden(self, missing: Collection[Place]) -> Mapping[Place, str]:
            return dict.fromkeys(missing, "refused") if len(looks) == 1 else {}

        async def close(self) -> None:
            """Nothing is open."""

    watch = watching(Seer(), store)
    await watch.once()
    await watch.once()
    assert watch.trouble == "refused"
    assert store.standing_claims("nats", watch._id)
    assert any(row["receiver"] == place.receiver for row in store.standing_places("nats", watch._id))
    await watch.once()
    assert not store.standing_claims("nats", watch._id)
    assert not any(row["receiver"] == place.receiver for row in store.standing_places("nats", watch._id))
