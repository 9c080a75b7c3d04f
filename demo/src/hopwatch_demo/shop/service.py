"""How every service of the shop starts, works and ends."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hopwatch_demo.catalogue import Broker, Kind
from hopwatch_demo.shop.messaging import Bus, Desk, connect
from hopwatch_demo.shop.messaging.bus import Gate, Handler
from hopwatch_demo.shop.settings import Settings
from hopwatch_demo.truth import Act, Record


@dataclass(frozen=True, slots=True)
class Service:
    """One running service: what it was told, its record, its connections to the brokers that run."""

    settings: Settings
    record: Record
    gate: Gate
    buses: dict[Broker, Bus]

    async def listen(self, kind: Kind, handler: Handler, tasks: asyncio.TaskGroup) -> None:
        """Handle a kind of message on every broker it travels on; a task of its own each."""
        carrying = [bus for broker, bus in self.buses.items() if broker in kind.brokers]
        for handling in await asyncio.gather(*(bus.listen(kind, handler) for bus in carrying)):
            tasks.create_task(handling)

    def ready(self) -> None:
        """Record that everything is subscribed."""
        self.record.write(Act.READY)


Work = Callable[[Service, asyncio.TaskGroup], Awaitable[None]]


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[Service]:
    """Connect a service to its record and brokers, and close them afterwards."""
    settings = Settings.from_environment()
    record = Record.of_process(settings.records, name)
    gate = Gate(settings.records)
    desk = Desk(name, record, gate)
    buses: dict[Broker, Bus] = {}
    try:
        for bus in await asyncio.gather(*(connect(*broker, desk) for broker in settings.brokers.items())):
            buses[bus.broker] = bus
        yield Service(settings, record, gate, buses)
    finally:
        for bus in buses.values():
            await bus.close()
        record.close()


def work(name: str, start: Work) -> None:
    """Run a service that only handles messages until it is told to end (SIGTERM, SIGINT)."""
    asyncio.run(_work(name, start))


async def _work(name: str, start: Work) -> None:
    ended = stop_signal()
    async with opened(name) as service:
        with contextlib.suppress(_Ended):
            try:
                async with asyncio.TaskGroup() as tasks:
                    await start(service, tasks)
                    service.ready()
                    await ended.wait()
                    raise _Ended
            except* _Ended:
                pass


class _Ended(Exception):
    """Told to end; cancels the tasks."""


def stop_signal() -> asyncio.Event:
    """Return an event that is set when the process is told to end."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    return ended
