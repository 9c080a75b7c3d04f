"""Groups of Kafka's new consumer protocol (KIP-848), which aiokafka does not speak: seen as far as that goes."""

import asyncio
import shutil
import struct
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from kafka_shop import Shop

from hopwatch.transports.aiokafka import AioKafkaInstrumentor
from hopwatch_collector.query import Queries
from hopwatch_collector.witness.kafka import KafkaWitness
from hopwatch_demo.brokers.kafka import Kafka

pytestmark = pytest.mark.kafka

_NEW = "\ngroup.coordinator.rebalance.protocols=classic,consumer\nunstable.feature.versions.enable=true\n"


class NewKafka(Kafka):
    """Kafka with the new protocol, which is a preview in 3.9 and needs its storage formatted for it."""

    def prepare(self) -> None:
        super().prepare()
        config = self.directory / "server.properties"
        config.write_text(config.read_text() + _NEW)
        shutil.rmtree(self.directory / "data")
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        arguments = self._java(
            "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", "server.properties"
        )
        subprocess.run(arguments, cwd=self.directory, check=True, capture_output=True)


@pytest.fixture
def new(tmp_path: Path) -> Iterator[NewKafka]:
    """A Kafka of this test's own."""
    kafka = NewKafka(tmp_path / "own")
    kafka.provide()
    kafka.start()
    yield kafka
    kafka.stop(hard=True)


def _text(value: str) -> bytes:
    """A compact string."""
    return bytes([len(value) + 1]) + value.encode()


async def _join(port: int, group: str, topic: str) -> asyncio.StreamWriter:
    """Join a group as clients of the new protocol do, by ConsumerGroupHeartbeat; a member while the writer is open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    first, nothing, no_partitions = 0, b"\0", b"\1"
    body = [
        _text(group), _text(""), struct.pack(">i", first), nothing, nothing, struct.pack(">i", 30_000),
        bytes([2]), _text(topic), nothing, no_partitions, b"\0",
    ]  # fmt: skip
    request = struct.pack(">hhi", 68, 0, 1) + struct.pack(">h", 1) + b"c" + b"\0" + b"".join(body)
    writer.write(struct.pack(">i", len(request)) + request)
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    answer = await reader.readexactly(size)
    assert struct.unpack(">h", answer[9:11]) == (0,), answer
    return writer


async def test_group_of_the_new_protocol(stage, new: NewKafka) -> None:
    """Its offsets are seen and judged; who is in it is not told, which is not the same as nobody, and not deleted."""
    bootstrap = f"127.0.0.1:{new.port}"
    shop = Shop(stage(KafkaWitness(bootstrap), AioKafkaInstrumentor()), bootstrap)
    await shop.send("a")
    partition = TopicPartition(shop.topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id="modern", enable_auto_commit=False)
    await consumer.start()
    consumer.assign([partition])
    await consumer.commit({partition: 0})
    await consumer.stop()
    await shop.stage.observe()
    writer = await _join(new.port, "modern", shop.topic)
    await shop.send("b")
    expected = {("a", "modern"): "waiting", ("b", "modern"): "waiting"}
    told = await shop.stage.judged(expected, broker=list(expected))
    (row,) = Queries(shop.stage.store).lag().rows
    assert (row.receiver, row.waiting, row.consumers) == ("modern", 2, None)
    why = Queries(shop.stage.store).why(told["b", "modern"].message_id)
    assert why is not None
    said = [evidence.says for evidence in why.explanations[0].evidence]
    assert any("who reads is not told: a group of the new consumer protocol" in one for one in said)
    writer.close()
