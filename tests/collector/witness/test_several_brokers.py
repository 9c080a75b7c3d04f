"""Several brokers of a kind at once, each known by what it says it is; and what is made again under the same name."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aio_pika
import httpx
import nats
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from kafka_shop import administering
from nats.js.api import ConsumerConfig, StreamConfig
from scenario_support import until

from hopwatch_collector.engine import Store
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.witness import kafka_metadata
from hopwatch_collector.witness.kafka import KafkaWitness
from hopwatch_collector.witness.model import Claim, Look, Place, Position, Witness
from hopwatch_collector.witness.nats import NatsWitness
from hopwatch_collector.witness.rabbitmq import RabbitMQWitness
from hopwatch_collector.witness.rabbitmq_firehose import RabbitMQFirehose
from hopwatch_collector.witness.watch import Watch, write_claims
from hopwatch_demo.brokers import Brokers


@pytest.fixture(scope="module")
def other() -> Iterator[Brokers]:
    """A second Kafka."""
    with Brokers.start(["kafka"], required=["kafka"], environ={}) as brokers:
        yield brokers


@asynccontextmanager
async def watched(store: Store, **witnesses: Witness) -> AsyncIterator[list[Watch]]:
    """Watches by their names, in this order."""
    watches: list[Watch] = []
    for name, witness in witnesses.items():
        watches.append(Watch(witness, store, Metrics(), name=name, before=tuple(watches)))
    try:
        yield watches
    finally:
        for watch in watches:
            await watch._witness.close()


def rows(store: Store, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """What the engine has."""
    return [tuple(row) for row in store._writer.query(statement, parameters=parameters).result_rows]


def told(store: Store, name: str) -> set[str]:
    """What a broker of this name said it is."""
    return {row[0] for row in rows(store, "SELECT told FROM brokers WHERE name = {name:String}", name=name)}


def stood(store: Store, receiver: str) -> list[tuple[str, str, str]]:
    """Broker, incarnation and state of a receiver as they followed each other, each change once."""
    found = rows(
        store,
        "SELECT broker, incarnation, state = 'gone' ? 'gone' : 'there' FROM receiver_states "
        "WHERE receiver = {receiver:String} ORDER BY at",
        receiver=receiver,
    )
    return [row for number, row in enumerate(found) if number == 0 or found[number - 1] != row]


async def write(bootstrap: str, topic: str, count: int) -> None:
    """Send so many records."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for _ in range(count):
            await producer.send_and_wait(topic, b"x")


async def commit(bootstrap: str, topic: str, group: str, offset: int) -> None:
    """Set a group's offset."""
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    async with consumer:
        consumer.assign([partition])
        await consumer.commit({partition: offset})


@pytest.mark.kafka
async def test_two_clusters_with_the_same_topic_and_group(
    store: Store, kafka_bootstrap: str, other: Brokers
) -> None:
    """Each cluster's offsets are its own; a collector that starts again takes nothing of one for deleted in the other."""
    topic = "twofold"
    for bootstrap, written, committed in ((kafka_bootstrap, 3, 1), (other.kafka.url, 5, 4)):
        await write(bootstrap, topic, written)
        await commit(bootstrap, topic, topic, committed)
    for _ in range(2):
        async with watched(
            store, one=KafkaWitness(kafka_bootstrap), two=KafkaWitness(other.kafka.url)
        ) as both:
            for watch in both:
                await until(lambda watch=watch: _sees(watch), "the cluster to be seen")  # type: ignore[misc]
    [first], [second] = told(store, "one"), told(store, "two")
    assert first != second
    found = rows(
        store,
        "SELECT broker, end, done FROM receiver_states WHERE receiver = {group:String} ORDER BY at",
        group=topic,
    )
    assert {row for row in found if row[0] == first} == {(first, 3, 1)}
    assert {row for row in found if row[0] == second} == {(second, 5, 4)}
    assert len({broker for broker, _, _ in stood(store, topic)}) == 2
    assert {row[2] for row in stood(store, topic)} == {"there"}
    claims = rows(store, "SELECT DISTINCT broker FROM subscriptions WHERE receiver = {g:String}", g=topic)
    assert {row[0] for row in claims} == {first, second}
    assert set(rows(store, "SELECT DISTINCT system, broker FROM watches")) == {
        ("kafka", "one"),
        ("kafka", "two"),
    }


async def _sees(watch: Watch) -> bool:
    await watch.once()
    return watch.trouble is None


@pytest.mark.kafka
async def test_a_cluster_watched_twice(store: Store, kafka_bootstrap: str) -> None:
    """The second watch of a broker says so and writes nothing; what it had written before the first came is taken back."""
    await write(kafka_bootstrap, "once", 1)
    await commit(kafka_bootstrap, "once", "once", 0)
    port = kafka_bootstrap.rpartition(":")[2]
    async with watched(store, one=KafkaWitness(kafka_bootstrap), two=KafkaWitness(f"localhost:{port}")) as [
        one,
        two,
    ]:
        await two.once()
        assert store.standing_claims("kafka", two._id)
        await one.once()
        await two.once()
        assert (one.trouble, "watched as one already" in (two.trouble or "")) == (None, True)
        assert store.standing_claims("kafka", one._id)
        assert not store.standing_claims("kafka", two._id)
        before = rows(store, "SELECT count() FROM receiver_states") + rows(
            store, "SELECT count() FROM watches"
        )
        await write(kafka_bootstrap, "once", 1)
        await two.once()
        after = rows(store, "SELECT count() FROM receiver_states") + rows(
            store, "SELECT count() FROM watches"
        )
        assert before == after
        samples = {
            sample.labels["broker"]: sample.value
            for watch in (one, two)
            for family in watch._metrics.registry.collect()
            for sample in family.samples
            if sample.name == "hopwatch_witness_up"
        }
        assert samples == {"one": 1.0, "two": 1.0}


@pytest.mark.kafka
async def test_a_topic_made_again(store: Store, kafka_bootstrap: str) -> None:
    """Deleted and made again between two looks, a topic is another: the former is gone, and its offsets say nothing of it."""
    topic = "made-again"
    await write(kafka_bootstrap, topic, 3)
    await commit(kafka_bootstrap, topic, topic, 1)
    async with watched(store, main=KafkaWitness(kafka_bootstrap)) as [watch]:
        await watch.once()
        await watch.once()
        deleted = datetime.now(UTC)
        async with administering(kafka_bootstrap) as admin:
            await admin.delete_topics([topic])
            await admin.create_topics([NewTopic(topic, 1, 1)])
        made = datetime.now(UTC)
        # As far as the former was: by offsets alone nothing has happened.
        await write(kafka_bootstrap, topic, 3)
        await commit(kafka_bootstrap, topic, topic, 1)
        await watch.once()
    [first, gone, second] = stood(store, topic)
    assert first[1] != second[1]
    assert all(len(one[1]) == 36 and one[1] == one[1].lower() for one in (first, second))
    assert (first[2], gone, second[2]) == ("there", (*first[:2], "gone"), "there")
    assert {first[0], second[0]} == told(store, "main")
    # From the last look at the former to the first at the other, nobody knows which of them was there.
    last = "SELECT max(at) FROM receiver_states WHERE receiver = {group:String} AND incarnation = {id:String}"
    assert rows(store, last, group=topic, id=first[1])[0][0] < deleted
    oldest = "SELECT argMax(oldest_at, at) FROM receiver_states WHERE receiver = {group:String}"
    assert rows(store, oldest, group=topic)[0][0] >= made - timedelta(seconds=1)


@pytest.mark.kafka
async def test_a_broker_that_tells_no_topic_ids(
    store: Store, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old Kafka does not know them; its cluster's id is told all the same."""
    monkeypatch.setattr(kafka_metadata, "_VERSION", 99)
    await write(kafka_bootstrap, "old", 1)
    await commit(kafka_bootstrap, "old", "old", 0)
    async with watched(store, main=KafkaWitness(kafka_bootstrap)) as [watch]:
        await watch.once()
        assert watch.trouble is None
    [cluster] = told(store, "main")
    assert stood(store, "old") == [(cluster, "", "there")]


@pytest.mark.rabbitmq
async def test_two_virtual_hosts(store: Store, brokers: Brokers, rabbitmq_url: str) -> None:
    """Queues of the same name in two virtual hosts of one RabbitMQ are two; what clients are told is what the witness tells."""
    management, queue = brokers.rabbitmq.management_url, "twice"
    async with httpx.AsyncClient(base_url=f"{management}/api/") as http:
        (await http.put("vhosts/billing")).raise_for_status()
        (
            await http.put("permissions/billing/guest", json={"configure": ".*", "write": ".*", "read": ".*"})
        ).raise_for_status()
        try:
            names = {}
            for vhost, count in (("/", 1), ("billing", 2)):
                url = rabbitmq_url.rpartition("/")[0] + "/" + ("%2F" if vhost == "/" else vhost)
                async with await aio_pika.connect(url) as connection:
                    properties = connection.transport.connection.server_properties  # type: ignore[union-attr]
                    names[vhost] = properties["cluster_name"]
                    channel = await connection.channel()
                    await channel.declare_queue(queue, durable=True)
                    for _ in range(count):
                        await channel.default_exchange.publish(aio_pika.Message(b"x"), queue)
            cluster = names["/"].decode() if isinstance(names["/"], bytes) else names["/"]
            firehose = RabbitMQFirehose(f"{rabbitmq_url.rpartition('/')[0]}/billing", management)
            async with watched(
                store,
                main=RabbitMQWitness(management),
                billing=RabbitMQWitness(management, "billing"),
                listening=firehose,
            ) as watches:
                for watch in watches:
                    await watch.once()
            assert told(store, "main") == {f"{cluster}/"}
            assert told(store, "billing") == {f"{cluster}/billing"}
            assert {row[0] for row in stood(store, queue)} == {f"{cluster}/", f"{cluster}/billing"}
            assert {row[0] for row in rows(store, "SELECT broker FROM told")} == {f"{cluster}/billing"}
        finally:
            await http.delete("vhosts/billing")
            await http.delete(f"queues/%2F/{queue}")


@pytest.fixture
def own() -> Iterator[Brokers]:
    """A NATS server of this test's own."""
    with Brokers.start(["nats"], required=["nats"], environ={}) as brokers:
        yield brokers


async def test_a_stream_made_again_and_a_server_restarted(store: Store, own: Brokers) -> None:
    """A stream of the same name is another, at a server that came back it is the same; the broker's name stays."""
    async with watched(store, main=NatsWitness(own.nats.url, own.nats.monitoring_url)) as [watch]:
        client = await nats.connect(own.nats.url, reconnect_time_wait=0.1, max_reconnect_attempts=-1)
        streams = client.jetstream()

        async def make() -> str:
            await streams.add_stream(StreamConfig(name="ORDERS", subjects=["orders.>"]))
            told = ConsumerConfig(durable_name="billing", ack_policy="explicit")  # type: ignore[arg-type]
            await streams.add_consumer("ORDERS", told)
            for _ in range(3):
                await streams.publish("orders.placed", b"x")
            stream = await streams.stream_info("ORDERS")
            consumer = await streams.consumer_info("ORDERS", "billing")
            return f"{stream.created} {consumer.created}"

        await make()
        await watch.once()
        await streams.delete_stream("ORDERS")
        await make()
        await watch.once()
        [first, gone, second] = stood(store, "ORDERS/billing")
        assert first[1] != second[1]
        assert gone == (*first[:2], "gone")
        before = client._server_info["server_id"]
        assert told(store, "main") == {before}
        await asyncio.to_thread(own.restart, "nats")
        await until(lambda: _sees(watch), "the server to be back")
        after = watch.identities
        assert before not in after
        assert told(store, "main") == {before, *after}
        assert stood(store, "ORDERS/billing") == [first, gone, second]
        # A collector that starts again, after the server has too, still finds what has gone.
        await asyncio.to_thread(own.restart, "nats")
        await until(lambda: _deleted(streams), "the client to be back")
        async with watched(store, main=NatsWitness(own.nats.url)) as [again]:
            await until(lambda: _looked(again), "the server to be back")
            assert stood(store, "ORDERS/billing")[-1] == (*second[:2], "gone")
            assert not store.standing_claims("nats", again._id)
        await client.close()


async def test_what_is_missing_from_a_stream_made_again(own: Brokers) -> None:
    """A message removed from the middle of a stream is told, though the former one missed the same one."""
    witness = NatsWitness(own.nats.url)
    client = await nats.connect(own.nats.url)
    streams = client.jetstream()
    for _ in range(2):
        await streams.add_stream(StreamConfig(name="ORDERS", subjects=["orders.>"]))
        told = ConsumerConfig(durable_name="billing", ack_policy="explicit")  # type: ignore[arg-type]
        await streams.add_consumer("ORDERS", told)
        for _ in range(3):
            await streams.publish("orders.placed", b"x")
        await streams.delete_msg("ORDERS", 2)
        look = await witness.look()
        assert [(seen.receiver, seen.offset, seen.kind) for seen in look.sightings] == [
            ("ORDERS/billing", 2, "removed")
        ]
        await streams.delete_stream("ORDERS")
    await client.close()
    await witness.close()


async def _deleted(streams: Any) -> bool:
    try:
        return bool(await streams.delete_stream("ORDERS"))
    except (nats.errors.Error, nats.js.errors.Error):
        return False


async def _looked(watch: Watch) -> bool:
    await watch.once()
    return bool(watch.identities)


class Teller:
    """A witness that sees what it is told to."""

    broker = "broker:1"

    def __init__(self, system: str, *looks: Look) -> None:
        self.system = system
        self._looks = list(looks)

    async def look(self) -> Look:
        return self._looks.pop(0)

    async def hidden(self, missing: Collection[Place]) -> Mapping[Place, str]:
        return {}

    async def close(self) -> None: ...


PLACE = Place("billing", "0", "orders")


def seen(*identities: str, incarnation: str = "") -> Look:
    """A group that stands somewhere, at a broker that says it is these."""
    return Look(
        frozenset({Claim("orders", "billing")}),
        {PLACE: Position(next=7, incarnation=incarnation)},
        identities=identities,
    )


async def test_another_cluster_at_the_same_address(store: Store) -> None:
    """A Kafka that was set up anew has nothing of what the former one had, whatever it is called; nor over a restart of ours."""
    for looks in ([seen("A"), seen("B")], [seen("C")]):
        async with watched(store, main=Teller("kafka", *looks)) as [watch]:
            for _ in looks:
                await watch.once()
    assert stood(store, "billing") == [
        ("A", "", "there"), ("A", "", "gone"), ("B", "", "there"), ("B", "", "gone"), ("C", "", "there"),
    ]  # fmt: skip
    assert [row["broker"] for row in store.standing_claims("kafka", watch._id)] == ["C"]


async def test_a_broker_that_is_renamed_is_the_same(store: Store) -> None:
    """RabbitMQ's clusters can be renamed: what stands stays under the first name, and both lead to the broker."""
    async with watched(store, main=Teller("rabbitmq", seen("a/"), seen("b/"), Look(identities=("b/",)))) as [
        watch
    ]:
        await watch.once()
        await watch.once()
        assert told(store, "main") == {"a/", "b/"}
        assert stood(store, "billing") == [("a/", "", "there")]
        await watch.once()
        assert stood(store, "billing") == [("a/", "", "there"), ("a/", "", "gone")]
        assert not store.standing_claims("rabbitmq", watch._id)


async def test_a_name_given_later_is_of_all_that_was_seen(store: Store) -> None:
    """Identities under which things still stand are known by the new name too, though the broker has another one now."""
    async with watched(store, before=Teller("nats", seen("A"))) as [watch]:
        await watch.once()
    async with watched(store, after=Teller("nats", seen("B"))) as [watch]:
        await watch.once()
    assert told(store, "after") == {"A", "B"}


async def test_what_was_written_before_brokers_were_told_apart(store: Store) -> None:
    """Titles and places of an earlier version become those of the broker that is found there, since they began."""
    began = datetime.now(UTC) - timedelta(hours=1)
    never = datetime(1970, 1, 1, tzinfo=UTC)
    async with watched(store, main=Teller("kafka", seen("A"), Look(identities=("A",)))) as [watch]:
        row = [
            began.date(), "kafka", "orders", "billing", 1, watch._id, began.replace(microsecond=0), "", began, began, never,
            "",
        ]  # fmt: skip
        write_claims(store, [row])
        await watch.once()
        [title] = store.standing_claims("kafka", watch._id)
        assert (title["broker"], title["first_at"]) == ("A", began)
        await watch.once()
        assert not store.standing_claims("kafka", watch._id)


@pytest.mark.parametrize(("one", "two"), [("1", ""), ("", "1")])
async def test_an_incarnation_that_is_not_told_is_none_of_another(store: Store, one: str, two: str) -> None:
    """That events were missed makes no queue another."""
    looks = [seen("a/", incarnation=one), seen("a/", incarnation=two)]
    async with watched(store, main=Teller("rabbitmq", *looks)) as [watch]:
        await watch.once()
        await watch.once()
    assert {state for _, _, state in stood(store, "billing")} == {"there"}
