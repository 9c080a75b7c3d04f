"""customers: place orders at a steady rate, from when the shop opens until they are told to stop."""

import asyncio
import contextlib
from itertools import count

import httpx

import hopwatch
from hopwatch_demo.catalogue import call_event, order_name
from hopwatch_demo.shop.order import Order
from hopwatch_demo.shop.service import stop_signal
from hopwatch_demo.shop.settings import Settings
from hopwatch_demo.truth import Act, Record

NAME = "customers"
LOOK_S = 0.1
OPEN = "OPEN"
"""File in the folder of records that says the shop is open; nobody orders before."""
STOPPED = "LOAD-STOPPED"
"""File in the folder of records that tells customers to place no further order."""


async def place(client: httpx.AsyncClient, record: Record, number: int) -> None:
    """Place one order; number and price follow from one another, so that runs are alike."""
    order = order_name(number)
    event = call_event(order, "gateway")
    body = Order(event=event, number=number, order=order, cents=100 + 37 * number % 9_900)
    with hopwatch.tag(event=event):
        record.write(Act.SENDING, event=event, kind="call", receiver="gateway")
        answer = await client.post("/orders", json=body.model_dump())
        record.write(Act.SENT, event=event, kind="call", how="answered" if answer.is_success else "failed")


async def main() -> None:
    """Place orders at `HOPWATCH_DEMO_RATE` per second, whether earlier ones were answered or not."""
    ended = stop_signal()
    settings = Settings.from_environment()
    record = Record.of_process(settings.records, NAME)
    stopped = settings.records / STOPPED
    loop = asyncio.get_running_loop()
    record.write(Act.READY)
    while not ((settings.records / OPEN).exists() or ended.is_set()):  # noqa: ASYNC110 — another process opens it
        await asyncio.sleep(LOOK_S)
    async with (
        httpx.AsyncClient(base_url=f"http://{settings.gateway}", timeout=30.0) as client,
        asyncio.TaskGroup() as tasks,
    ):
        due = loop.time()
        for number in count(1):
            due += 1.0 / settings.rate
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), max(0.0, due - loop.time()))
            if ended.is_set() or stopped.exists():
                break
            tasks.create_task(place(client, record, number))
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
