"""A wire to a broker that can be made one-way, and cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Wire:
    """Forwards everything between a client and a broker, answers only while it is not `muted`."""

    url: str
    muted: bool = False
    _ends: list[asyncio.StreamWriter] = field(default_factory=list)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        parts = urlsplit(self.url)
        from_broker, to_broker = await asyncio.open_connection(parts.hostname, parts.port)
        self._ends += [writer, to_broker]
        await asyncio.gather(
            self._pass(reader, to_broker, answers=False), self._pass(from_broker, writer, answers=True)
        )

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if not (answers and self.muted):
                    writer.write(data)
                    await writer.drain()

    def cut(self) -> None:
        """Break every connection off."""
        for end in self._ends:
            end.transport.abort()


@asynccontextmanager
async def wired(url: str) -> AsyncIterator[tuple[Wire, str]]:
    """A wire to the broker at `url`, and the address a client takes instead."""
    wire = Wire(url)
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    parts = urlsplit(url)
    async with server:
        yield wire, parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()
        wire.cut()
