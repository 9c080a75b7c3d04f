"""What becomes of Kafka records when the cluster goes away, or does not let the witness see."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka_shop import Shop
from scenario_support import until

from hopwatch.transports.aiokafka import AioKafkaInstrumentor
from hopwatch_collector.witness.kafka import KafkaWitness
from hopwatch_demo.brokers.kafka import Kafka
from hopwatch_demo.brokers.ports import free_ports

_GUARDED = """\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},GUARDED://127.0.0.1:{guarded}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{guarded}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.guarded.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_witness="right" user_nobody="right";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:witness
"""


class GuardedKafka(Kafka):
    """Kafka with a second entrance for logins: `witness` may see everything, `nobody` nothing."""

    def prepare(self) -> None:
        super().prepare()
        (self.guarded,) = free_ports(1)
        own = _GUARDED.format(port=self.port, controller=self.controller, guarded=self.guarded)
        replaced = {line.partition("=")[0] for line in own.splitlines()}
        config = self.directory / "server.properties"
        kept = [line for line in config.read_text().splitlines() if line.partition("=")[0] not in replaced]
        config.write_text("\n".join(kept) + "\n" + own)

    def witness(self, user: str, password: str) -> KafkaWitness:
        """A witness with a login."""
        return KafkaWitness(
            f"127.0.0.1:{self.guarded}",
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            sasl_plain_username=user,
            sasl_plain_password=password,
        )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:
    """A Kafka of this file's own."""
    kafka = GuardedKafka(Path(tmp_path_factory.mktemp("kafka"), "own"))
    kafka.provide()
    kafka.start()
    yield kafka
    kafka.stop(hard=True)


async def _half_read(shop: Shop) -> None:
    await shop.send("a")
    assert await shop.read("billing", 1) == ["a"]
    await shop.send("b")


@pytest.mark.kafka
@pytest.mark.scenario(39, "Any: broker restarted in mid-flight")
async def test_broker_restarts(stage, guarded: GuardedKafka) -> None:
    """While the broker is away the witness says so; afterwards what was kept is read, and nothing is judged twice."""
    shop = Shop(
        stage(guarded.witness("witness", "right"), AioKafkaInstrumentor()), f"127.0.0.1:{guarded.port}"
    )
    await _half_read(shop)
    await shop.stage.judged(
        {("a", "billing"): "settled", ("b", "billing"): "waiting"}, broker=[("b", "billing")]
    )
    await asyncio.to_thread(guarded.stop)
    await shop.stage.observe()
    assert shop.stage.watch.trouble is not None
    assert f"Kafka at 127.0.0.1:{guarded.guarded}" in shop.stage.watch.trouble
    verdicts = {shop.stage.name_of(one): str(one.verdict) for one in shop.stage.ledger()}
    assert verdicts == {"a": "settled", "b": "waiting"}
    await asyncio.to_thread(guarded.restart)

    async def back() -> bool:
        await shop.stage.observe()
        return shop.stage.watch.trouble is None

    await until(back, "the witness to see again")
    await shop.send("c")
    assert await shop.read("billing", 1) == ["b"]
    told = await shop.stage.judged(
        {("a", "billing"): "settled", ("b", "billing"): "settled", ("c", "billing"): "waiting"},
        broker=[("c", "billing")],
    )
    assert told["b", "billing"].attempts == 1


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("user", "password", "said"),
    [("witness", "wrong", "Authentication"), ("nobody", "right", "DESCRIBE on all groups")],
)
@pytest.mark.scenario(40, "Any: witness without permission")
async def test_witness_without_permission(
    stage, guarded: GuardedKafka, user: str, password: str, said: str
) -> None:
    """A witness that may not look says so, and what needs its word is unknown and names it; the rest is judged."""
    shop = Shop(stage(guarded.witness(user, password), AioKafkaInstrumentor()), f"127.0.0.1:{guarded.port}")
    await _half_read(shop)
    await _unknown_names_the_witness(shop, said)


@pytest.mark.scenario(40, "Any: witness without permission")
async def test_witness_cannot_reach_the_broker(stage, kafka_bootstrap: str) -> None:
    """A witness whose broker does not answer says so, and what needs its word is unknown and names it."""
    (nobody_there,) = free_ports(1)
    shop = Shop(stage(KafkaWitness(f"127.0.0.1:{nobody_there}"), AioKafkaInstrumentor()), kafka_bootstrap)
    await _half_read(shop)
    await _unknown_names_the_witness(shop, f"Kafka at 127.0.0.1:{nobody_there}")


async def _unknown_names_the_witness(shop: Shop, said: str) -> None:
    expected = {("a", "billing"): "settled", ("b", "billing"): "unknown"}
    told = await shop.stage.judged(expected, deadline_s=1.0)
    assert shop.stage.watch.trouble is not None
    assert said in shop.stage.watch.trouble
    unsure = told["b", "billing"]
    assert unsure.reason == f"the broker cannot be asked: {shop.stage.watch.trouble}"
    assert unsure.witnesses == ["producer"]
