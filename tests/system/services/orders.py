"""A sender for the commands' tests: orders placed over NATS, JetStream and RabbitMQ, some of which reach nobody.

Run under `hopwatch run`; it takes the run's name, and says on stdout what it sent.
"""

import asyncio
import json
import os
import sys
from contextlib import suppress

import aio_pika
import nats
from nats.errors import NoRespondersError
from opentelemetry import trace

import hopwatch
from hopwatch_demo.patience import scale_wait


async def main(name: str) -> None:
    """Place the orders of one customer, each in a trace of its own."""
    connection = await nats.connect(os.environ["NATS"], connect_timeout=scale_wait(30))
    async with await aio_pika.connect(os.environ["RABBITMQ"]) as amqp:
        channel = await amqp.channel()
        backlog = await channel.declare_queue(f"{name}-backlog", exclusive=True)
        with (
            hopwatch.tag(order_id=f"{name}-4711"),
            trace.get_tracer("orders").start_as_current_span("place an order"),
        ):
            await connection.publish(f"{name}.placed", b"4711")
            await connection.jetstream(timeout=scale_wait(10)).publish(
                f"{name}.kept", b"4711", headers={"Nats-Msg-Id": f"{name}-msg-4711"}
            )
            await channel.default_exchange.publish(
                aio_pika.Message(b"4711", message_id=f"{name}-bill-4711"), routing_key=f"{name}-bills"
            )
            trace_id = trace.get_current_span().get_span_context().trace_id
        with hopwatch.tag(order_id=f"{name}-4712"):
            await channel.default_exchange.publish(aio_pika.Message(b"4712"), routing_key=f"{name}-nowhere")
            with suppress(NoRespondersError):
                await connection.request(f"{name}.anyone", b"4712", timeout=scale_wait(20))
        for number in range(3):
            await channel.default_exchange.publish(
                aio_pika.Message(f"{number}".encode()), routing_key=backlog.name
            )
        await connection.flush()
        print(json.dumps({"placed": f"{trace_id:032x}"}))
        await asyncio.get_running_loop().run_in_executor(
            None, sys.stdin.readline
        )  # the backlog is ours alone
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
