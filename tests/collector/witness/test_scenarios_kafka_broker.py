"""What becomes of Kafka records when the cluster goes away, or does not let the witness see."""

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DeleteGroupsRequest
from courses import Course, Receivers, collector_away, restarted
from kafka_shop import Shop, administering

from hopwatch.transports.aiokafka import AioKafkaInstrumentor
from hopwatch_collector.query import Queries
from hopwatch_collector.settings import Settings
from hopwatch_collector.witness.configured import witnesses
from hopwatch_collector.witness.kafka import KafkaWitness
from hopwatch_collector.witness.model import WitnessAway
from hopwatch_demo.brokers.kafka import Kafka
from hopwatch_demo.brokers.ports import free_ports

_GUARDED = """\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},GUARDED://127.0.0.1:{guarded},SEALED://127.0.0.1:{sealed}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{guarded},SEALED://127.0.0.1:{sealed}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_PLAINTEXT,SEALED:SASL_SSL
sasl.enabled.mechanisms=PLAIN
listener.name.guarded.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_witness="right" user_nobody="right" user_some="right";
listener.name.sealed.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_witness="ri:g%t@";
listener.name.sealed.ssl.keystore.location={directory}/keys.p12
listener.name.sealed.ssl.keystore.password={secret}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:witness
log.cleaner.backoff.ms=200
"""
_SECRET = "only-for-this-test"
_TOPIC, _GROUP = 2, 3
_READ, _DESCRIBE, _DESCRIBE_CONFIGS = 3, 8, 10
_DENY, _ALLOW = 2, 3
_LITERAL = 3


class GuardedKafka(Kafka):
    """Kafka with a second entrance for logins, and a third with TLS.

    `witness` may see everything, `nobody` nothing, `some` what is allowed.
    """

    def prepare(self) -> None:
        super().prepare()
        self.guarded, self.sealed = free_ports(2)
        self._make_keys()
        own = _GUARDED.format(
            port=self.port,
            controller=self.controller,
            guarded=self.guarded,
            sealed=self.sealed,
            directory=self.directory,
            secret=_SECRET,
        )
        replaced = {line.partition("=")[0] for line in own.splitlines()}
        config = self.directory / "server.properties"
        kept = [line for line in config.read_text().splitlines() if line.partition("=")[0] not in replaced]
        config.write_text("\n".join(kept) + "\n" + own)

    @property
    def authority(self) -> Path:
        """The certificate that vouches for the third entrance: its own."""
        return self.directory / "authority.pem"

    def _make_keys(self) -> None:
        self._keytool(
            *[
                "-genkeypair",
                "-keyalg",
                "EC",
                "-groupname",
                "secp256r1",
                "-validity",
                "2",
                "-dname",
                "CN=kafka",
            ],
            *["-ext", "san=ip:127.0.0.1", "-ext", "bc:critical=ca:true"],
            *["-ext", "ku:critical=keyCertSign,digitalSignature"],
        )
        self._keytool("-exportcert", "-rfc", "-file", str(self.authority))

    def _keytool(self, *arguments: str) -> None:
        # It lies beside the java of every JRE, not always on the PATH.
        keytool = str(Path(self.jvm).resolve().with_name("keytool"))
        store = ["-alias", "kafka", "-keystore", str(self.directory / "keys.p12"), "-storepass", _SECRET]
        subprocess.run([keytool, *arguments, *store], check=True, capture_output=True)

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


@pytest.fixture
async def shop(stage, guarded: GuardedKafka) -> Shop:
    """A shop on that Kafka, whose witness may see everything; groups in it are in use."""
    witness = guarded.witness("witness", "right")
    return Shop(stage(witness, AioKafkaInstrumentor()), f"127.0.0.1:{guarded.port}")


async def _known(shop: Shop, *groups: str) -> None:
    """Have groups known to the witness before anything is sent that matters."""
    with shop.stage.unseen():
        await shop.send("before")
        for group in groups:
            assert await shop.read(group, 1) == ["before"]
    await shop.stage.observe()


def _course(shop: Shop) -> Course:
    return Course(shop.stage, lambda names: shop.send(*names), shop.read)


@pytest.mark.kafka
@pytest.mark.scenario(39, "Any: broker restarted in mid-flight")
async def test_broker_restarts(shop: Shop, guarded: GuardedKafka) -> None:
    """What Kafka kept over its restart still waits."""
    await _known(shop, "billing")
    await restarted(_course(shop), "billing", guarded.stop, guarded.restart)


@pytest.mark.kafka
@pytest.mark.scenario(41, "Any: collector down for a while")
async def test_collector_down(shop: Shop, guarded: GuardedKafka) -> None:
    """Committed offsets and missing groups tell a collector that comes back what happened to records meanwhile."""
    billing, legacy, audit = (f"{group}-{shop.stage.unique}" for group in ("billing", "legacy", "audit"))
    await _known(shop, billing, legacy, audit)
    await collector_away(
        _course(shop),
        Receivers(billing, legacy, audit),
        partial(_delete_group, shop.bootstrap, audit),
        partial(guarded.witness, "witness", "right"),
    )


async def _delete_group(bootstrap: str, group: str) -> None:
    """Delete a group with its offsets."""
    async with administering(bootstrap) as admin:
        node = await admin.find_coordinator(group)
        answer = await admin._send_request(DeleteGroupsRequest([group]), node)
        assert [error for _, error in answer.results] == [0]


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


@pytest.mark.kafka
async def test_witness_behind_tls(stage, guarded: GuardedKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kafkas://` asks over TLS, with the login as it is spelt in the address; of a stranger's certificate it says so."""
    address = f"kafkas://witness:ri%3Ag%25t%40@127.0.0.1:{guarded.sealed}"
    [stranger] = [one.witness for one in witnesses(Settings(watch_kafka=address))]
    with pytest.raises(WitnessAway, match="CERTIFICATE_VERIFY_FAILED"):
        await stranger.look()
    monkeypatch.setenv("SSL_CERT_FILE", str(guarded.authority))
    [witness] = [one.witness for one in witnesses(Settings(watch_kafka=address))]
    shop = Shop(stage(witness, AioKafkaInstrumentor()), f"127.0.0.1:{guarded.port}")
    await _half_read(shop)
    await shop.stage.judged(
        {("a", "billing"): "settled", ("b", "billing"): "waiting"}, broker=[("b", "billing")]
    )


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


async def _allow(bootstrap: str, kind: int, name: str, operation: int, permission: int = _ALLOW) -> None:
    """Say what the user `some` may do or not."""
    async with administering(bootstrap) as admin:
        request = CreateAclsRequest(kind, name, _LITERAL, "User:some", "*", operation, permission)
        answer = await admin._send_to_controller(request)
        assert [told[0] for told in answer.creation_responses] == [0]


async def _allow_again(bootstrap: str, kind: int, name: str, operation: int) -> None:
    """Take a denial back."""
    async with administering(bootstrap) as admin:
        request = DeleteAclsRequest(kind, name, _LITERAL, "User:some", "*", operation, _DENY)
        await admin._send_to_controller(request)


@pytest.mark.kafka
@pytest.mark.scenario(40, "Any: witness without permission")
async def test_witness_loses_permission(stage, guarded: GuardedKafka) -> None:
    """What a login may not see any more is not taken for deleted: unknown, naming the witness; the rest is judged."""
    shop = Shop(stage(guarded.witness("some", "right"), AioKafkaInstrumentor()), f"127.0.0.1:{guarded.port}")
    for kind, operation in ((_TOPIC, _READ), (_TOPIC, _DESCRIBE_CONFIGS), (_GROUP, _DESCRIBE)):
        await _allow(shop.bootstrap, kind, "*", operation)
    billing, audit = f"billing-{shop.stage.unique}", f"audit-{shop.stage.unique}"
    await _known(shop, billing, audit)
    await shop.send("b")
    held = {("b", billing): "overdue", ("b", audit): "overdue"}
    await shop.stage.judged(held, broker=list(held), deadline_s=0.5)

    await _allow(shop.bootstrap, _GROUP, audit, _DESCRIBE, _DENY)
    told = await shop.stage.judged({**held, ("b", audit): "unknown"}, deadline_s=0.5)
    assert told["b", audit].cause == "unknown.no_permission"
    assert f"Kafka at {shop.stage.watch.broker} does not show the group {audit}" in told["b", audit].reason
    assert told["b", audit].reason.endswith("DESCRIBE on all groups and topics")
    assert shop.stage.watch.trouble is not None

    await _allow(shop.bootstrap, _TOPIC, shop.topic, _DESCRIBE, _DENY)
    told = await shop.stage.judged(dict.fromkeys(held, "unknown"), deadline_s=0.5)
    assert f"does not show the topic {shop.topic}" in told["b", billing].reason

    await _allow_again(shop.bootstrap, _TOPIC, shop.topic, _DESCRIBE)
    await _allow_again(shop.bootstrap, _GROUP, audit, _DESCRIBE)
    await shop.stage.judged(held, broker=list(held), deadline_s=0.5)
    assert shop.stage.watch.trouble is None


@pytest.mark.kafka
async def test_compaction(shop: Shop) -> None:
    """A record that a later one of its key replaced before it was read is evicted, and no lag; the later one waits."""
    async with administering(shop.bootstrap) as admin:
        configs = {
            "cleanup.policy": "compact", "segment.ms": "1", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1",
        }  # fmt: skip
        await admin.create_topics([NewTopic(shop.topic, 1, 1, topic_configs=configs)])
    producer = AIOKafkaProducer(bootstrap_servers=shop.bootstrap)
    await producer.start()

    async def send(key: str, name: str) -> None:
        with shop.stage.named(name):
            await producer.send_and_wait(shop.topic, name.encode(), key=key.encode())

    await send("x", "first")
    assert await shop.read("billing", 1) == ["first"]
    await send("y", "a")
    await send("y", "b")
    await send("z", "c")  # begins a new segment: what came before may be compacted
    await producer.stop()
    expected = {
        ("first", "billing"): "settled", ("a", "billing"): "evicted", ("b", "billing"): "waiting", ("c", "billing"): "waiting",
    }  # fmt: skip
    told = await shop.stage.judged(expected, broker=[("a", "billing"), ("b", "billing")])
    assert told["a", "billing"].cause == "evicted.compacted"
    (row,) = [one for one in Queries(shop.stage.store).lag().rows if one.destination == shop.topic]
    assert row.waiting == 2
    assert await shop.read("billing", 2) == ["b", "c"]
    await shop.stage.judged({**expected, ("b", "billing"): "settled", ("c", "billing"): "settled"})
