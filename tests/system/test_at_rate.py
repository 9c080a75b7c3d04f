"""Many messages a second over three brokers, of mixed fates, and a collector that is killed: the ledger is the truth.

HOPWATCH_RATE_SECONDS, HOPWATCH_RATE_PER_S, HOPWATCH_RATE_KILLS and HOPWATCH_RATE_SEED change the size of the nightly run.
"""

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from urllib.request import urlopen
from uuid import uuid4

import aio_pika
import nats
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from nats.js.api import ConsumerConfig, StreamConfig
from support import rate
from support.collector import Collector, Ports
from support.process import Process
from support.waiting import NotInTime, eventually

from hopwatch_demo.brokers import Brokers
from hopwatch_demo.patience import scale_wait

pytestmark = [pytest.mark.nats, pytest.mark.rabbitmq, pytest.mark.kafka, pytest.mark.timeout(400)]

DEADLINE_S = 5.0
"""The collector's; at the end all that is open is beyond it."""
CATCH_UP_S = 60.0
"""Time for receivers and ledger to catch up; half of the time that was sent for is added to it."""
NAMES = ("kafka", "rabbitmq", "nats")
PAUSE = threading.Event()


@dataclass(frozen=True)
class Size:
    """How much is sent for how long, how often the collector is killed, and what the lots are drawn by."""

    seconds: float
    per_s: float
    kills: int
    seed: str = "4711"

    @classmethod
    def from_environment(cls) -> "Size":
        """Return the nightly size, or what is asked for."""
        return cls(
            float(os.environ.get("HOPWATCH_RATE_SECONDS", "600")),
            float(os.environ.get("HOPWATCH_RATE_PER_S", "500")),
            int(os.environ.get("HOPWATCH_RATE_KILLS", "5")),
            os.environ.get("HOPWATCH_RATE_SEED", "4711"),
        )

    @property
    def each(self) -> int:
        """Messages over each broker."""
        return round(self.seconds * self.per_s / len(NAMES))

    @property
    def catch_up_s(self) -> float:
        """How long everything may take that comes after the last message."""
        return CATCH_UP_S + self.seconds / 2


SMOKE = Size(15, 90, 1)
NIGHTLY = Size.from_environment()


@pytest.fixture
def run(brokers: Brokers) -> Iterator[str]:
    """The name of this run, and of all that it has at the brokers."""
    name = f"rate{uuid4().hex[:10]}"
    asyncio.run(prepare(brokers, name))
    yield name
    asyncio.run(clear(brokers, name))


async def prepare(brokers: Brokers, run: str) -> None:
    """Make topic, exchange, queues, stream and durables; the shelves stay without readers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers.kafka.url)
    await admin.start()
    await admin.create_topics([NewTopic(run, 2, 1)])
    await admin.close()
    async with await aio_pika.connect(brokers.rabbitmq.url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(run, aio_pika.ExchangeType.TOPIC, durable=True)
        letters = await channel.declare_exchange(f"{run}-letters", aio_pika.ExchangeType.FANOUT, durable=True)
        for short, keys in (("billing", "order.*"), ("stock", "order.*"), ("shelf", "order.kept")):
            arguments = {"x-dead-letter-exchange": letters.name} if short == "billing" else None
            queue = await channel.declare_queue(f"{run}.{short}", durable=True, arguments=arguments)
            for key in ("order.plain", "order.kept") if keys == "order.*" else (keys,):
                await queue.bind(exchange, key)
        await (await channel.declare_queue(f"{run}.dead", durable=True)).bind(letters)
    client = await nats.connect(brokers.nats.url, connect_timeout=scale_wait(30))
    jetstream = client.jetstream(timeout=scale_wait(20))
    await jetstream.add_stream(StreamConfig(name=run, subjects=[f"{run}.>"]))
    for short, subject in (("billing", f"{run}.>"), ("shelf", f"{run}.kept")):
        durable = ConsumerConfig(
            durable_name=short,
            filter_subject=subject,
            ack_policy="explicit",
            ack_wait=3_600,
            max_ack_pending=-1,
        )
        await jetstream.add_consumer(run, durable)
    await client.close()


async def clear(brokers: Brokers, run: str) -> None:
    """Take away what `prepare` made: other tests use the same brokers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers.kafka.url)
    await admin.start()
    await admin.delete_topics([run])
    await admin.close()
    async with await aio_pika.connect(brokers.rabbitmq.url) as connection:
        channel = await connection.channel()
        for short in ("billing", "stock", "shelf", "dead"):
            await channel.queue_delete(f"{run}.{short}")
        for exchange in (run, f"{run}-letters"):
            await channel.exchange_delete(exchange)
    client = await nats.connect(brokers.nats.url, connect_timeout=scale_wait(30))
    await client.jetstream(timeout=scale_wait(20)).delete_stream(run)
    await client.close()


class Shop:
    """The services of a run, and what they write down."""

    def __init__(
        self,
        run: str,
        size: Size,
        folder: Path,
        collector: Collector,
        wires: dict[str, str],
        stack: ExitStack,
    ) -> None:
        self._run, self._size, self._folder = run, size, folder
        # More spans than a collector that is away for half a minute misses.
        self._env = collector.environment(**wires, OTEL_BSP_MAX_QUEUE_SIZE="200000")
        self._stack = stack
        self.receivers = {name: self._start("receiver", name, str(size.each)) for name in NAMES}
        self.senders = {
            name: self._start("sender", name, repr(size.per_s / len(NAMES)), str(size.each)) for name in NAMES
        }
        for process in (*self.receivers.values(), *self.senders.values()):
            assert process.answer(within=60) == {"ready": True}

    def _start(self, kind: str, name: str, *more: str) -> Process:
        path = str(self._path(kind, name))
        process = Process.service(
            f"rate_{kind}", name, self._run, self._size.seed, *more, path, env=self._env
        )
        return self._stack.enter_context(process)

    def _path(self, kind: str, name: str) -> Path:
        return self._folder / f"{name}-{kind}.jsonl"

    def records(self, name: str) -> rate.Records:
        """What sender and receivers of a broker have written down so far."""
        paths = self._path("sender", name), self._path("receiver", name)
        return rate.Records.read(rate.Broker(name, self._run), *paths)

    def send(self) -> None:
        """Have all begin to send."""
        for sender in self.senders.values():
            sender.tell(do="send")

    def await_sent(self) -> None:
        """Return when all has been sent."""
        for sender in self.senders.values():
            assert sender.answer(within=self._size.seconds + self._size.catch_up_s) == {
                "sent": self._size.each
            }

    def await_received(self) -> None:
        """Return when receivers have done with all that they are given."""
        for name, receiver in self.receivers.items():
            sent = self.records(name).sent.values()
            failed = [line for line in sent if line.how not in ("confirmed", "returned")]
            assert not failed, f"{len(failed)} could not be sent, as {failed[0]}"
            owed = sum(line.how == "confirmed" for line in sent)
            wanted = {"billing": owed, "stock": owed}
            wanted |= {"archive": self._size.each // 2} if name == "kafka" else {}
            eventually(
                lambda receiver=receiver: receiver.ask(do="status")["done"],  # type: ignore[misc]
                lambda done, wanted=wanted: wanted.items() <= done.items(),  # type: ignore[misc]
                within=self._size.catch_up_s,
                what=f"{name}: {wanted}",
            )

    def await_buried(self) -> None:
        """Return when all that was rejected has been read from the dead letters."""

        def missing() -> int:
            dealings = self.records("rabbitmq").dealings
            rejected = {event for (event, _), one in dealings.items() if one.how == "reject"}
            return len(rejected - {event for event, receiver in dealings if receiver.endswith(".dead")})

        eventually(missing, lambda left: left == 0, within=self._size.catch_up_s, what="dead letters")

    def export(self) -> None:
        """Have all spans sent; none may have been lost."""
        for process in (*self.senders.values(), *self.receivers.values()):
            process.tell(do="export")
            told = process.answer(within=90)
            assert told["flushed"], told
            assert not told["dropped"], f"spans were lost on their way: {told}"


class Killer:
    """Kills the collector at moments drawn by lot and starts it again, and adds up what each one counted."""

    def __init__(self, collector: Collector, size: Size) -> None:
        self._collector = collector
        lot = Random(f"{size.seed} kills")
        self._moments = sorted(lot.uniform(0.1, 0.95) * size.seconds for _ in range(size.kills))
        self.mismatches = 0

    def work(self) -> None:
        """Kill at each moment from now on; return after the last."""
        began = time.monotonic()
        for moment in self._moments:
            PAUSE.wait(max(0.0, began + moment - time.monotonic()))
            self.mismatches += mismatches(self._collector)
            self._collector.kill()
            self._collector.start()


def scrape(collector: Collector) -> str:
    """Return the page that Prometheus would scrape."""
    with urlopen(f"{collector.api_url}/metrics", timeout=scale_wait(30)) as page:
        return str(page.read(), "utf-8")


def mismatches(collector: Collector) -> int:
    """Return how often an audit found a verdict that the judge should have changed."""
    return int(
        sum(value for _, value in rate.read_metric(scrape(collector), "hopwatch_verdict_mismatch_total"))
    )


def await_witnesses(collector: Collector) -> None:
    """Return when every broker has been asked."""
    eventually(
        lambda: {
            labels["system"]
            for labels, value in rate.read_metric(scrape(collector), "hopwatch_witness_up")
            if value == 1
        },
        lambda up: up >= set(NAMES),
        what="witnesses",
    )


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(SMOKE, id="smoke"),
        pytest.param(
            NIGHTLY,
            id="nightly",
            marks=[pytest.mark.nightly, pytest.mark.timeout(600 + 4 * NIGHTLY.seconds)],
        ),
    ],
)
def test_the_ledger_is_the_truth_at_any_rate(
    size: Size, run: str, brokers: Brokers, wires: dict[str, str], tmp_path: Path
) -> None:
    """Every delivery is what its sender and receiver wrote down, counts are those of the rows, audits find nothing."""
    watched = [
        f"--deadline={DEADLINE_S:g}",
        f"--watch-kafka={brokers.kafka.url}",
        f"--watch-rabbitmq={brokers.rabbitmq.management_url}",
        f"--watch-nats={brokers.nats.url}",
        f"--watch-nats-monitoring={brokers.nats.monitoring_url}",
    ]
    began = datetime.now(UTC) - timedelta(seconds=10)
    with ExitStack() as stack:
        collector = Collector(tmp_path / "collector", *watched, ports=Ports.free())
        stack.callback(collector.stop)
        await_witnesses(collector)
        shop = Shop(run, size, tmp_path, collector, wires, stack)
        killer = Killer(collector, size)
        shop.send()
        killer.work()
        shop.await_sent()
        shop.await_received()
        shop.await_buried()
        shop.export()
        expected = dict(pair for name in NAMES for pair in shop.records(name).expected())
        found = await_truth(collector, began, expected, size)
        page = scrape(collector)
        total = sum(found.counts.values())
        print(f"{total} deliveries: {dict(sorted(_by_verdict(found.counts).items()))}")  # noqa: T201
        assert not found.differences, f"{found.told(collector.api)}\n{collector.process}"
        assert rate.count_deliveries(page) == found.counts
        assert killer.mismatches + mismatches(collector) == 0


def _by_verdict(counts: Counter[tuple[str, str]]) -> Counter[str]:
    by_verdict: Counter[str] = Counter()
    for (verdict, _), count in counts.items():
        by_verdict[verdict] += count
    return by_verdict


def await_truth(
    collector: Collector, began: datetime, expected: dict[rate.Key, rate.Truth], size: Size
) -> rate.Comparison:
    """Return the comparison once nothing differs and the counts are those of the rows, or the last one in time.

    Counts are looked at first, for what they cost; they may be those of a moment ago.
    """
    wanted = Counter((truth.verdict.value, receiver) for (_, receiver), truth in expected.items())
    end = time.monotonic() + scale_wait(size.catch_up_s)
    while True:
        with suppress(NotInTime):  # the comparison says which they are
            eventually(
                lambda: rate.count_deliveries(scrape(collector)),
                lambda counts: counts == wanted,
                within=10,
            )
        found = rate.compare(expected, rate.read_ledger(collector.api, began))
        if time.monotonic() > end or (
            not found.differences and rate.count_deliveries(scrape(collector)) == found.counts
        ):
            return found
        print(found)  # noqa: T201  what was not right yet
