"""One client of one broker, instrumented or not, that deals with messages by lot and writes down what it did.

    truth_client.py SPEC RECORD

SPEC is a `truth_spec.Client` as JSON. Orders on stdin: a sender is told {"do": "send", "first": 0, "count": 100, "mark": ""};
a receiver {"do": "pause"} or {"do": "leave"}; {"do": "export"}: see rate_orders.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Protocol

from truth_spec import HELD_AT_MOST, Client

CLIENT = Client(**json.loads(sys.argv[1]))

if CLIENT.told:
    import hopwatch

    hopwatch.instrument(service=CLIENT.name)

from contextlib import AbstractContextManager, nullcontext  # noqa: E402

import truth_kafka  # noqa: E402
import truth_nats  # noqa: E402
import truth_rabbitmq  # noqa: E402
from rate_orders import Order, obey  # noqa: E402
from record import Record, draw  # noqa: E402

BROKERS = {"kafka": truth_kafka, "rabbitmq": truth_rabbitmq, "nats": truth_nats}
UNDER_WAY = 200
"""Sends that may wait for their answers at the same time."""


class Desk:
    """What a receiver decides and notes, whatever its broker is."""

    def __init__(self, client: Client, record: Record) -> None:
        self.client, self.record = client, record
        self.open, self.left = asyncio.Event(), asyncio.Event()
        self.open.set()
        self._held = 0

    def take(self, body: bytes) -> tuple[str, str]:
        """Note that a message is here; return its event and what is to become of it."""
        event = body.decode()
        self.record.write("received", event, self.client.receiver)
        fate = draw(self.client.seed, event, self.client.receiver, self.client.shares, "ack")
        if fate == "hold":
            self._held += 1
            fate = "hold" if self._held <= HELD_AT_MOST else "ack"
        return event, fate

    def settle(self, event: str, how: str) -> None:
        """Note how a message is about to be settled."""
        self.record.write("settled", event, self.client.receiver, how)

    async def pause(self) -> dict[str, object]:
        """Begin on no further message from now on."""
        self.open.clear()
        return {"paused": True}


class Wire(Protocol):
    """A client of a broker that sends."""

    async def publish(self, route: str, event: str) -> tuple[str, int, int]:
        """Send; return how it came back, and partition and offset where the broker says so."""
        ...


def tagged(event: str) -> AbstractContextManager[object]:
    """Have what is sent in the block bear its event as a business key."""
    return hopwatch.tag(event=event) if CLIENT.told else nullcontext()


async def send(wire: Wire, record: Record, first: int, count: int, mark: str) -> dict[str, object]:
    """Send so many, each when its time has come, or as soon as earlier ones leave room."""
    loop, rate = asyncio.get_running_loop(), float(CLIENT.settings["rate"])
    room = asyncio.Semaphore(1 if CLIENT.settings.get("one_by_one") else UNDER_WAY)

    async def send_one(number: int) -> None:
        event = f"{CLIENT.run}.{number:05d}"
        route = draw(CLIENT.seed, event, "route", CLIENT.shares, CLIENT.settings.get("route", ""))
        try:
            with tagged(event):
                how, partition, offset = await wire.publish(route, event)
        except Exception as error:  # noqa: BLE001  the record says why
            how, partition, offset = f"failed: {error!r}", -1, -1
        finally:
            room.release()
        record.write("sent", event, mark, how, route=route, partition=partition, offset=offset)

    began = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
            await room.acquire()
            group.create_task(send_one(first + number))
    return {"sent": count}


async def told_nothing() -> dict[str, object]:
    """Stand in for an export where there is nothing to export."""
    return {"flushed": True, "dropped": {}, "delivered": 0}


async def main(path: str) -> None:
    """Be the client until told to leave, or until stdin ends."""
    record = Record(Path(path))
    broker = BROKERS[CLIENT.broker]
    orders: dict[str, Order] = {} if CLIENT.told else {"export": told_nothing}
    if CLIENT.role == "send":
        wire = await broker.connect(CLIENT)

        async def carry_out(first: int, count: int, mark: str) -> dict[str, object]:
            return await send(wire, record, first, count, mark)

        await obey({"send": carry_out, **orders})
        return
    desk = Desk(CLIENT, record)
    end = await broker.receive(desk)

    async def leave() -> dict[str, object]:
        desk.left.set()
        desk.open.set()
        await end()
        return {"left": True}

    await obey({"pause": desk.pause, "leave": leave, **orders})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[2]))
