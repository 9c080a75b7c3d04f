"""A service that works over every wire there is, and says exactly what it did; whether anyone collects is no business of its.

Told on stdin by JSON lines: {"do": "work", "name": …, "count": …} or {"do": "exit", "status": …}. In the middle of
its work it says {"halfway": …}, at the end what was sent, received and answered over each wire.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import hopwatch
from hopwatch_demo.patience import scale_wait

hopwatch.instrument(service="steady")

import aio_pika  # noqa: E402  a service may turn hopwatch on before or after its imports: here before
import aiokafka  # noqa: E402
import fastapi  # noqa: E402
import httpx  # noqa: E402
import nats  # noqa: E402
import uvicorn  # noqa: E402

Halfway = Callable[[], Awaitable[None]]
Done = dict[str, list[str]]
PATIENCE_S = scale_wait(30.0)


async def over_nats(name: str, count: int, halfway: Halfway) -> Done:
    """Publishes to a queue group, and requests that are replied to."""
    received: list[str] = []
    everything = asyncio.Event()
    connection = await nats.connect(os.environ["NATS"], connect_timeout=scale_wait(30))

    async def handle(message: Any) -> None:
        received.append(message.data.decode())
        if len(received) == count:
            everything.set()

    async def reply(message: Any) -> None:
        await message.respond(b"re: " + message.data)

    await connection.subscribe(f"{name}.event", queue=f"{name}-group", cb=handle)
    await connection.subscribe(f"{name}.question", cb=reply)
    await connection.flush()
    answers = []
    for number in range(count):
        await connection.publish(f"{name}.event", f"{number}".encode())
        if number % 4 == 0:
            answer = await connection.request(f"{name}.question", f"{number}".encode(), timeout=PATIENCE_S)
            answers.append(answer.data.decode())
        if number == count // 2:
            await halfway()
    await connection.flush()
    await asyncio.wait_for(everything.wait(), PATIENCE_S)
    await connection.close()
    return {"received": received, "answers": answers}


async def over_rabbitmq(name: str, count: int, halfway: Halfway) -> Done:
    """Confirmed publishes to a queue whose consumer acknowledges, every seventh only at the second attempt."""
    received: list[str] = []
    async with await aio_pika.connect_robust(os.environ["RABBITMQ"]) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=50)
        queue = await channel.declare_queue(name, auto_delete=True)
        everything = asyncio.Event()

        async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            text = message.body.decode()
            if int(text) % 7 == 0 and not message.redelivered:
                await message.nack(requeue=True)
                return
            await message.ack()
            received.append(text)
            if len(received) == count:
                everything.set()

        await queue.consume(handle)
        answers = []
        for number in range(count):
            confirmation = await channel.default_exchange.publish(
                aio_pika.Message(f"{number}".encode()), routing_key=name
            )
            answers.append(type(confirmation).__name__)
            if number == count // 2:
                await halfway()
        await asyncio.wait_for(everything.wait(), PATIENCE_S)
    return {"received": sorted(received, key=int), "answers": answers}


async def over_kafka(name: str, count: int, halfway: Halfway) -> Done:
    """Sends with their offsets; a group that commits every ten."""
    received: list[str] = []
    answers: list[str] = []
    bootstrap = os.environ["KAFKA"]
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for number in range(count):
            where = await producer.send_and_wait(name, f"{number}".encode())
            answers.append(f"{where.partition}/{where.offset}")
            if number == count // 2:
                await halfway()
    consumer = aiokafka.AIOKafkaConsumer(
        name,
        bootstrap_servers=bootstrap,
        group_id=f"{name}-group",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    async with consumer, asyncio.timeout(PATIENCE_S):
        async for record in consumer:
            received.append(record.value.decode())
            if len(received) % 10 == 0 or len(received) == count:
                await consumer.commit()
            if len(received) == count:
                break
    return {"received": received, "answers": answers}


async def over_http(name: str, count: int, halfway: Halfway) -> Done:
    """Calls that are answered, every fifth with an error."""
    received: list[str] = []
    app = fastapi.FastAPI()

    @app.get("/" + name + "/{number}")
    async def read(number: int) -> dict[str, int]:
        received.append(str(number))
        if number % 5 == 0:
            raise fastapi.HTTPException(409, "again")
        return {"number": number}

    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", access_log=False)
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0)
    port = server.servers[0].sockets[0].getsockname()[1]
    answers = []
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=scale_wait(20)
    ) as client:
        for number in range(count):
            answer = await client.get(f"/{name}/{number}")
            answers.append(f"{answer.status_code} {answer.text}")
            if number == count // 2:
                await halfway()
    server.should_exit = True
    await serving
    return {"received": received, "answers": answers}


WIRES = {"nats": over_nats, "rabbitmq": over_rabbitmq, "kafka": over_kafka, "http": over_http}


async def work(name: str, count: int) -> dict[str, Done]:
    """Work over every wire there is, all at the same time; each waits for the others in the middle of its work."""
    available = [wire for wire in WIRES if wire == "http" or os.environ.get(wire.upper())]
    together = asyncio.Barrier(len(available))

    async def halfway() -> None:
        if await together.wait() == 0:
            say(halfway=name)

    done = await asyncio.gather(*(WIRES[wire](f"{name}-{wire}", count, halfway) for wire in available))
    return dict(zip(available, done, strict=True))


def say(**what: Any) -> None:
    """Write one line for the test."""
    print(json.dumps(what))


async def main() -> int:
    """Obey until stdin is closed or an exit status is ordered."""
    say(ready=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        if order["do"] == "exit":
            return int(order["status"])
        say(done=await work(order["name"], order["count"]))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
