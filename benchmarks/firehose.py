"""`python -m benchmarks.firehose`: what RabbitMQ's firehose costs the broker, and reading it the collector.

The same messages are sent, confirmed, handed out and acknowledged with tracing off, on with nobody reading, and on with the
witness reading and writing down. Counts the broker's CPU, the collector's (witness and engine), and messages per second.
"""

import argparse
import asyncio
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import aiormq
import httpx
from aiormq.abc import DeliveredMessage

from hopwatch_collector.engine import Store
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.witness.rabbitmq_firehose import RabbitMQFirehose
from hopwatch_collector.witness.watch import Watch
from hopwatch_demo.brokers import Brokers

MESSAGES = 20_000
BODY = b"x" * 1024
AT_ONCE = 200


async def traffic(url: str, count: int) -> None:
    """Send so many messages, each with an id, and read them all."""
    connection = await aiormq.connect(url)
    sending, reading = await connection.channel(), await connection.channel()
    queue = (await sending.queue_declare("firehose-cost", auto_delete=True)).queue or ""
    read = 0
    done = asyncio.Event()

    async def take(message: DeliveredMessage) -> None:
        nonlocal read
        read += 1
        await reading.basic_ack(message.delivery.delivery_tag or 0, wait=False)  # type: ignore[union-attr]
        if read == count:
            done.set()

    await reading.basic_qos(prefetch_count=AT_ONCE)
    await reading.basic_consume(queue, take)
    for first in range(0, count, AT_ONCE):
        await asyncio.gather(
            *(
                sending.basic_publish(
                    BODY, routing_key=queue, properties=aiormq.spec.Basic.Properties(message_id=f"m{number}")
                )
                for number in range(first, first + AT_ONCE)
            )
        )
    await done.wait()
    await connection.close()


async def broker_pid(http: httpx.AsyncClient) -> int:
    """The broker's process, once the management API has looked at it."""
    while True:
        [node] = (await http.get("nodes")).json()
        if "os_pid" in node:
            return int(node["os_pid"])
        await asyncio.sleep(0.2)


def broker_cpu_s(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def own_cpu_s() -> float:
    """What this process has used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(what: str, url: str, pid: int, watch: Watch | None) -> None:
    """Let the messages pass, and say what that cost."""
    watching = asyncio.create_task(watch.run()) if watch else None
    await asyncio.sleep(2)
    began, broker, own = time.perf_counter(), broker_cpu_s(pid), own_cpu_s()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.firehose", "--traffic", url, "--messages", str(MESSAGES)
    )
    assert await child.wait() == 0
    took = time.perf_counter() - began
    await asyncio.sleep(3)  # what was heard last is written down too
    print(
        f"{what}: messages_per_s={MESSAGES / took:.0f} "
        f"broker_cpu_us_per_message={(broker_cpu_s(pid) - broker) / MESSAGES * 1e6:.0f} "
        f"collector_cpu_us_per_message={(own_cpu_s() - own) / MESSAGES * 1e6:.0f} trouble={watch.trouble if watch else None}",
        flush=True,
    )
    if watching:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def run() -> None:
    """Measure three times over."""
    brokers = await asyncio.to_thread(Brokers.start, ["rabbitmq"], environ={})
    where = tempfile.mkdtemp(prefix="hopwatch-firehose-")
    store = Store.open(where)
    url, management = brokers.rabbitmq.url, brokers.rabbitmq.management_url
    print(f"RabbitMQ {brokers.rabbitmq.version}, Python {platform.python_version()}, {os.cpu_count()} cores")
    try:
        async with httpx.AsyncClient(base_url=httpx.URL(management).copy_with(path="/api/")) as http:
            pid = await broker_pid(http)
            await measure("warm-up", url, pid, None)
            for _ in range(3):
                await measure("tracing off", url, pid, None)
                await http.put("vhosts/%2F", json={"tracing": True})
                await measure("tracing on, nobody reads", url, pid, None)
                await measure(
                    "tracing on, read", url, pid, Watch(RabbitMQFirehose(url, management), store, Metrics())
                )
                await http.put("vhosts/%2F", json={"tracing": False})
    finally:
        store.close()
        await asyncio.to_thread(brokers.close)
        shutil.rmtree(where)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.firehose", description=__doc__)
    parser.add_argument("--traffic", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--messages", type=int, default=MESSAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    asyncio.run(traffic(options.traffic, options.messages) if options.traffic else run())


if __name__ == "__main__":
    main()
