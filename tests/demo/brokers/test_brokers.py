"""The brokers we start: they work, they keep what they must, they never outlive us."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import aio_pika
import nats
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from hopwatch_demo.brokers import Broker, BrokerMissing, Brokers, State
from hopwatch_demo.patience import scale_wait


@pytest.fixture
def fresh() -> str:
    """A name no other test uses."""
    return f"t{uuid4().hex}"


async def test_nats_gives_back_a_message(nats_url: str, fresh: str) -> None:
    """A message published to JetStream is stored and handed out again."""
    await put_nats(nats_url, fresh, b"one")
    assert await get_nats(nats_url, fresh) == b"one"


async def test_rabbitmq_gives_back_a_message(rabbitmq_url: str, fresh: str) -> None:
    """A message published to a queue is confirmed and handed out again."""
    await put_rabbitmq(rabbitmq_url, fresh, b"one")
    assert await get_rabbitmq(rabbitmq_url, fresh) == b"one"


async def test_kafka_gives_back_a_message(kafka_bootstrap: str, fresh: str) -> None:
    """A record sent to a new topic is stored and read again."""
    await put_kafka(kafka_bootstrap, fresh, b"one")
    assert await get_kafka(kafka_bootstrap, fresh) == b"one"


@pytest.mark.nats
async def test_nats_keeps_data_over_a_crash(fresh: str) -> None:
    """What JetStream acknowledged is there after a kill and a start."""
    with Brokers.start(["nats"], environ={}) as own:
        await put_nats(own.nats.url, fresh, b"kept")
        assert own.restart("nats", hard=True).url == own.nats.url
        assert await get_nats(own.nats.url, fresh) == b"kept"


@pytest.mark.rabbitmq
async def test_rabbitmq_keeps_data_over_a_restart(fresh: str) -> None:
    """A confirmed persistent message is there after an orderly stop and a start."""
    with Brokers.start(["rabbitmq"], environ={}) as own:
        await put_rabbitmq(own.rabbitmq.url, fresh, b"kept")
        assert own.restart("rabbitmq").url == own.rabbitmq.url
        assert await get_rabbitmq(own.rabbitmq.url, fresh) == b"kept"


@pytest.mark.kafka
async def test_kafka_keeps_data_over_a_restart(fresh: str) -> None:
    """An acknowledged record is there after an orderly stop and a start."""
    with Brokers.start(["kafka"], environ={}) as own:
        await put_kafka(own.kafka.url, fresh, b"kept")
        assert own.restart("kafka").url == own.kafka.url
        assert await get_kafka(own.kafka.url, fresh) == b"kept"


def test_a_stopped_broker_refuses_connections() -> None:
    """Pulling the plug is felt by clients, and putting it back heals it."""
    with Brokers.start(["nats"]) as brokers:
        port = int(brokers.nats.url.rpartition(":")[2])
        brokers.stop("nats")
        assert not listening(port)
        brokers.restart("nats")
        assert listening(port)


def test_a_given_broker_is_used_as_it_is(nats_url: str) -> None:
    """An environment variable points at a running broker; it is probed, used and never stopped."""
    with Brokers.start(["nats"], environ={"HOPWATCH_NATS_URL": nats_url}) as brokers:
        assert brokers.nats.state is State.GIVEN
        assert brokers.nats.url == nats_url
        assert brokers.nats.version.count(".") == 2
        with pytest.raises(BrokerMissing, match="only a broker started here"):
            brokers.stop("nats")


@pytest.mark.rabbitmq
@pytest.mark.kafka
def test_a_given_broker_tells_its_version(brokers: Brokers) -> None:
    """The version comes from the broker's own greeting, whoever started it."""
    with Brokers.start(["rabbitmq", "kafka"], environ=brokers.environ()) as given:
        assert given.rabbitmq == given_twin(brokers.rabbitmq)
        assert brokers.kafka.version.startswith(given.kafka.version)
        assert given.kafka.version


@pytest.mark.parametrize(
    ("name", "variable", "where"),
    [
        ("nats", "HOPWATCH_NATS_URL", "nats://127.0.0.1:1"),
        ("rabbitmq", "HOPWATCH_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:1/"),
        ("kafka", "HOPWATCH_KAFKA_BOOTSTRAP", "127.0.0.1:1"),
    ],
)
def test_missing_is_named_loudly(name: str, variable: str, where: str) -> None:
    """A broker that cannot be had is named with its reason, and raises only where it is required."""
    with Brokers.start([name], environ={variable: where}) as brokers:
        assert brokers[name].state is State.MISSING
        assert f"{name} missing ({variable}=" in brokers.closing_line()
        assert "guest:guest" not in brokers.closing_line()
    with pytest.raises(BrokerMissing, match=f"{name} missing"):
        Brokers.start([name], required=[name], environ={variable: where})


def test_missing_software_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither the software nor a way to install it is there, the reason says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with Brokers.start(["kafka"], environ={}) as brokers:
        assert "Java 17 is not installed" in brokers.kafka.reason


@pytest.mark.kafka
def test_missing_maven_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Java alone is not enough as long as Kafka's jars are not in the cache."""
    if (java := shutil.which("java")) is None:
        pytest.skip("no Java on the PATH")
    (tmp_path / "java").symlink_to(java)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Brokers.start(["kafka"], environ={}) as brokers:
        assert "Maven" in brokers.kafka.reason


def test_a_start_nobody_waits_for_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing while brokers still start ends them too, and leaves nothing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Brokers.start(["nats"], background=True) as brokers:
        pass
    assert brokers.nats.state in (State.REAL, State.MISSING)
    assert processes(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_asked_for_is_unused() -> None:
    """The closing line tells unused from missing."""
    with Brokers.start([]) as brokers:
        assert brokers.closing_line() == "brokers: nats unused, rabbitmq unused, kafka unused"


@pytest.mark.rabbitmq
@pytest.mark.kafka
def test_nothing_outlives_a_killed_owner(tmp_path: Path) -> None:
    """After SIGKILL of the process that started the brokers, no process and no directory of theirs is left."""
    owner = subprocess.Popen(
        [sys.executable, "-m", "hopwatch_demo.brokers"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert owner.stdout
    while "# brokers:" not in (line := owner.stdout.readline()):
        assert line, "the owner ended before its brokers were ready"
    assert {"nats-server", "beam.smp", "epmd", "java"} <= {name for _, name in processes(tmp_path)}, line
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    await_true(lambda: not processes(tmp_path), "every process to end")
    await_true(lambda: not list(tmp_path.iterdir()), "every directory to go")


def test_the_foreground_command_ends_orderly(tmp_path: Path) -> None:
    """`python -m hopwatch_demo.brokers nats` prints export lines and ends on SIGTERM with exit code 0."""
    owner = subprocess.Popen(
        [sys.executable, "-m", "hopwatch_demo.brokers", "nats"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert owner.stdout
    assert owner.stdout.readline().startswith("export HOPWATCH_NATS_URL=nats://127.0.0.1:")
    while "# brokers: nats real" not in (line := owner.stdout.readline()):
        assert line
    owner.terminate()
    owner.stdout.close()
    assert owner.wait(timeout=scale_wait(20)) == 0
    assert processes(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def given_twin(broker: Broker) -> Broker:
    """The same broker, seen by someone whom the environment pointed at it."""
    return Broker(
        broker.name,
        State.GIVEN,
        broker.version,
        broker.url,
        management_url=broker.management_url,
        monitoring_url=broker.monitoring_url,
    )


def processes(directory: Path) -> list[tuple[int, str]]:
    """Pid and name of everything with this directory in its environment or command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            said = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            name = (entry / "comm").read_text().strip()
        except OSError:
            continue  # it ended while we looked
        if os.fsencode(directory) in said:
            found.append((int(entry.name), name))
    return found


def listening(port: int) -> bool:
    """Whether anything accepts connections on this loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def await_true(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait for a condition, up to a deadline."""
    deadline = time.monotonic() + scale_wait(seconds)
    while not condition():
        assert time.monotonic() < deadline, f"waited {scale_wait(seconds):g} s for {what}"
        time.sleep(0.02)


async def put_nats(url: str, name: str, body: bytes) -> None:
    client = await nats.connect(url, connect_timeout=scale_wait(20))
    stream = client.jetstream(timeout=scale_wait(10))
    await stream.add_stream(name=name, subjects=[name])
    await stream.publish(name, body)
    await client.close()


async def get_nats(url: str, name: str) -> bytes:
    client = await nats.connect(url, connect_timeout=scale_wait(20))
    subscription = await client.jetstream(timeout=scale_wait(10)).pull_subscribe(
        name, durable="reader", stream=name
    )
    (message,) = await subscription.fetch(1, timeout=scale_wait(20))
    await message.ack_sync()
    await client.close()
    return message.data


async def put_rabbitmq(url: str, name: str, body: bytes) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue(name, durable=True)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key=name)


async def get_rabbitmq(url: str, name: str) -> bytes:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(name, durable=True)
        message = await queue.get(timeout=scale_wait(20))
        assert message
        await message.ack()
        await queue.delete()
        return message.body


async def put_kafka(bootstrap: str, name: str, body: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(name, body)


async def get_kafka(bootstrap: str, name: str) -> bytes:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(name, 0)])
        record = await consumer.getone()
        assert record.value is not None
        return record.value
