"""One library's workload in one mode, in a process of its own: CPU per message of all its threads, export included."""

import asyncio
import gc
import json
import logging
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.overhead_modes import LIBRARIES, Mode, flush, turn_on
from benchmarks.overhead_peer import METHOD, echo_server

_HEADERS = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "hopwatch-id": "0197a8b2-8c1f-7abc-9abc-0123456789ab",
}
_PAYLOAD = b'{"order": 17, "lines": [{"sku": "a-1", "n": 3}]}'.ljust(200)


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, handed over on the command line."""

    library: str
    mode: Mode
    run: str
    """Its own name at brokers and sink."""
    count: int
    """Messages measured per operation."""
    warm: int
    """Messages of each operation before its measurement begins."""
    http: str
    grpc: int
    nats: str = ""
    rabbitmq: str = ""
    kafka: str = ""


@dataclass(slots=True)
class Result:
    """What one job told."""

    cpu_us: dict[str, float] = field(default_factory=dict)
    """Per message, by operation."""
    expected: dict[str, int] = field(default_factory=dict)
    """Spans that should have come to the sink, by kind."""
    arrived: dict[str, int] = field(default_factory=dict)
    """Spans that did."""


class Bench:
    """Runs one job's operations and notes what they cost."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.result = Result()

    async def measure(self, name: str, kind: str, run: Callable[[int], Awaitable[object]]) -> None:
        """Measure `run(count)` until the last of its spans, of this kind, has left the process."""
        await run(self.job.warm)
        flush()
        gc.collect()
        before = time.process_time_ns()
        await run(self.job.count)
        flush()
        self.result.cpu_us[name] = (time.process_time_ns() - before) / 1_000 / self.job.count
        spans = self.result.expected.get(kind, 0) + self.job.warm + self.job.count
        self.result.expected[kind] = spans

    @property
    def headers(self) -> dict[str, str] | None:
        """What the application itself puts into each message's headers."""
        return dict(_HEADERS) if self.job.mode is Mode.HEADERS else None

    async def ask(self, what: str) -> bytes:
        """Ask the other side for something of this run."""
        return await asyncio.to_thread(self._ask, f"{self.job.http}/{self.job.run}/{what}")

    def _ask(self, url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return bytes(answer.read())


async def aiokafka(bench: Bench) -> None:
    """Send; the same messages read one by one, and in batches."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    job = bench.job
    headers = [(name, value.encode()) for name, value in (bench.headers or {}).items()] or None

    async def send(count: int) -> None:
        while count > 0:
            some = range(min(500, count))
            sent = [await producer.send(job.run, _PAYLOAD, headers=headers) for _ in some]
            await asyncio.gather(*sent)
            count -= len(sent)

    async def getone(count: int) -> None:
        record = None
        for _ in range(count):
            record = await consumer.getone()  # held until the next one comes, as in any handler's loop
        assert record is not None

    async def getmany(count: int) -> None:
        while count > 0:
            for records in (await consumer.getmany(timeout_ms=1_000, max_records=min(count, 500))).values():
                for _ in records:
                    count -= 1

    @asynccontextmanager
    async def consuming(group: str) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            job.run,
            bootstrap_servers=job.kafka,
            group_id=f"{job.run}-{group}",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        yield consumer
        await consumer.stop()

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the topic is new, which it calls an error
    producer = AIOKafkaProducer(bootstrap_servers=job.kafka)
    await producer.start()
    await bench.measure("send", "producer", send)
    await producer.stop()
    async with consuming("one") as consumer:
        await bench.measure("getone", "consumer", getone)
    async with consuming("many") as consumer:
        await bench.measure("getmany", "consumer", getmany)


async def nats(bench: Bench) -> None:
    """Publish; the same messages, played back by the other side, to a callback."""
    import nats

    client = await nats.connect(bench.job.nats)
    publish, handle = client.publish, _nothing
    headers = bench.headers
    if bench.job.mode is Mode.CONTRIB:
        publish, handle = _by_hand(client)

    async def send(count: int) -> None:
        for _ in range(count):
            await publish(f"bench.{bench.job.run}.out", _PAYLOAD, headers=headers)
        await client.flush()

    async def consume(count: int) -> None:
        nonlocal left
        left = count
        done.clear()
        await bench.ask(f"play/{count}")
        await done.wait()

    async def take(message: Any) -> None:
        nonlocal left
        await handle(message)
        left -= 1
        if not left:
            done.set()

    left, done = 0, asyncio.Event()
    await bench.measure("publish", "producer", send)
    await client.subscribe(f"bench.{bench.job.run}.in", cb=take)
    await client.flush()
    await bench.measure("consume", "consumer", consume)
    await client.close()


async def _nothing(message: Any) -> None:
    """Do what the measured handler does: nothing."""


def _by_hand(client: Any) -> tuple[Callable[..., Awaitable[None]], Callable[[Any], Awaitable[None]]]:
    """Publish and handle as a careful user of the OpenTelemetry API writes them, there being no instrumentation."""
    from opentelemetry import propagate, trace
    from opentelemetry.trace import SpanKind

    tracer = trace.get_tracer("shop")

    def described(subject: str, name: str, kind: str) -> dict[str, str]:
        return {
            "messaging.system": "nats",
            "messaging.operation.name": name,
            "messaging.operation.type": kind,
            "messaging.destination.name": subject,
            "server.address": "127.0.0.1",
        }

    async def publish(subject: str, payload: bytes, headers: None) -> None:
        with tracer.start_as_current_span(
            f"publish {subject}", kind=SpanKind.PRODUCER, attributes=described(subject, "publish", "send")
        ):
            carried: dict[str, str] = {}
            propagate.inject(carried)
            await client.publish(subject, payload, headers=carried)

    async def handle(message: Any) -> None:
        with tracer.start_as_current_span(
            f"process {message.subject}",
            context=propagate.extract(message.headers or {}),
            kind=SpanKind.CONSUMER,
            attributes=described(message.subject, "process", "process"),
        ):
            await _nothing(message)

    return publish, handle


async def aio_pika(bench: Bench) -> None:
    """Publish with confirms; the same messages to a callback that acknowledges."""
    import aio_pika

    job = bench.job
    connection = await aio_pika.connect_robust(job.rabbitmq)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=100)
    queues = {n: await channel.declare_queue(f"{job.run}.{n}", exclusive=True) for n in (job.warm, job.count)}

    async def publish(count: int) -> None:
        for _ in range(count):
            message = aio_pika.Message(_PAYLOAD, headers=bench.headers)  # type: ignore[arg-type]
            await channel.default_exchange.publish(message, queues[count].name)

    async def consume(count: int) -> None:
        left, done = count, asyncio.Event()

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            nonlocal left
            await message.ack()
            left -= 1
            if not left:
                done.set()

        tag = await queues[count].consume(take)
        await done.wait()
        await queues[count].cancel(tag)

    await bench.measure("publish", "producer", publish)
    await bench.measure("consume", "consumer", consume)
    await connection.close()


async def fastapi(bench: Bench) -> None:
    """Requests straight into the ASGI application, no server around it."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.post("/orders/{order}")
    async def order(order: int) -> dict[str, int]:
        return {"order": order}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/orders/17",
        "raw_path": b"/orders/17",
        "query_string": b"",
        "headers": [
            (b"host", b"orders:8000"),
            (b"traceparent", b"00-" + b"a1" * 16 + b"-" + b"b2" * 8 + b"-01"),
        ],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        assert event.get("status", 200) == 200

    async def requests(count: int) -> None:
        for _ in range(count):
            await app(dict(scope), receive, send)

    await bench.measure("request", "server", requests)


async def httpx(bench: Bench) -> None:
    """Requests over one connection that is kept."""
    import httpx

    async with httpx.AsyncClient() as client:

        async def requests(count: int) -> None:
            for _ in range(count):
                (await client.get(f"{bench.job.http}/hello", headers=bench.headers)).raise_for_status()

        await bench.measure("request", "client", requests)


async def grpc_client(bench: Bench) -> None:
    """Unary calls over one channel."""
    import grpc.aio

    async with grpc.aio.insecure_channel(f"127.0.0.1:{bench.job.grpc}") as channel:
        say = channel.unary_unary(METHOD)
        metadata = tuple((bench.headers or {}).items()) or None

        async def calls(count: int) -> None:
            for _ in range(count):
                await say(_PAYLOAD, metadata=metadata)

        await bench.measure("call", "client", calls)


async def grpc_server(bench: Bench) -> None:
    """Unary calls that another process makes."""
    server, port = echo_server()
    await server.start()

    async def calls(count: int) -> None:
        command = ["-m", "benchmarks.overhead_peer", "call", str(port), str(count)]
        caller = await asyncio.create_subprocess_exec(sys.executable, *command)
        assert await caller.wait() == 0

    await bench.measure("call", "server", calls)
    await server.stop(0)


async def main(job: Job) -> Result:
    """Run one job; the sink is asked at the end, when all that was begun has ended."""
    bench = Bench(job)
    turn_on(job.mode, LIBRARIES[job.library], f"{job.http}/{job.run}")
    await globals()[job.library](bench)
    flush()
    if job.mode.records:
        bench.result.arrived = json.loads(await bench.ask("spans"))
    return bench.result


if __name__ == "__main__":
    said = json.loads(sys.argv[1])
    print(json.dumps(asdict(asyncio.run(main(Job(**{**said, "mode": Mode(said["mode"])}))))))
