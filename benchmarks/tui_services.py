"""The services of the benchmark of the terminal view: a sender and a receiver over NATS, with hopwatch turned on.

`python -m benchmarks.tui_services send URL COUNT PER_SECOND NAME` says on stdout when it sent each message, a line of JSON each:
`order_id`, by which it is known on the screen, and `sent`, in seconds since 1970, taken right before the call to publish.
`python -m benchmarks.tui_services receive URL` says `ready`, receives and handles until its stdin is closed.
"""

import asyncio
import json
import random
import sys
import time

import nats

import hopwatch

SUBJECT = "bench.orders"


async def send(url: str, count: int, per_second: float, name: str) -> None:
    """Send at random moments, so that they meet every phase of what comes after."""
    moments = random.Random(17)
    client = await nats.connect(url)
    for number in range(count):
        await asyncio.sleep(moments.expovariate(per_second))
        order = f"{name}{number:05d}"
        with hopwatch.tag(order_id=order):
            sent = time.time()
            await client.publish(SUBJECT, b'{"sku": "a-1", "n": 3}')
        print(json.dumps({"order_id": order, "sent": sent}), flush=True)
    await client.flush()
    await client.close()


async def receive(url: str) -> None:
    """Handle what comes."""
    client = await nats.connect(url)
    await client.subscribe(SUBJECT, queue="bench-billing", cb=_handle)
    await client.flush()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await client.close()


async def _handle(_message: object) -> None:
    await asyncio.sleep(0.005)


def main() -> None:
    what, url, *rest = sys.argv[1:]
    hopwatch.instrument(service="bench-orders" if what == "send" else "bench-billing")
    if what == "send":
        asyncio.run(send(url, int(rest[0]), float(rest[1]), rest[2]))
    else:
        asyncio.run(receive(url))


if __name__ == "__main__":
    main()
