"""A receiver for the commands' tests: takes one order over each of NATS, JetStream and RabbitMQ.

Run under `hopwatch run`; it takes the run's name, says when it is ready and when it has billed, and ends with stdin.
"""

import asyncio
import json
import os
import sys
from typing import Any

import aio_pika
import nats

from hopwatch_demo.patience import scale_wait


async def main(name: str) -> None:
    """Bill what comes."""
    billed: asyncio.Queue[str] = asyncio.Queue()
    connection = await nats.connect(os.environ["NATS"], connect_timeout=scale_wait(30))
    async with await aio_pika.connect(os.environ["RABBITMQ"]) as amqp:
        channel = await amqp.channel()
        bills = await channel.declare_queue(f"{name}-bills", auto_delete=True)

        async def take(message: Any) -> None:
            billed.put_nowait("nats")

        async def bill(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            async with message.process():
                billed.put_nowait("rabbitmq")

        await connection.subscribe(f"{name}.placed", queue=f"{name}-billing", cb=take)
        jetstream = connection.jetstream(timeout=scale_wait(10))
        await jetstream.add_stream(name=name, subjects=[f"{name}.kept"], storage="memory")
        kept = await jetstream.pull_subscribe(f"{name}.kept", durable="ledger", stream=name)
        await bills.consume(bill)
        await connection.flush()
        print(json.dumps({"ready": True}))
        async with asyncio.timeout(scale_wait(30)):
            (message,) = await kept.fetch(1, timeout=scale_wait(30))
            await message.ack()
            over = ["jetstream", await billed.get(), await billed.get()]
        await kept.unsubscribe()
        print(json.dumps({"billed": sorted(over)}))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
