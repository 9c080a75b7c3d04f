"""Listening sockets, and ASGI applications served on them inside a running event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, cast

import uvicorn

from hopwatch_collector.connections import Connections, most_connections, protocol
from hopwatch_collector.errors import StartError

GRACE_S = 5
"""Seconds that requests in hand get to end when a server stops."""
KEEP_ALIVE_S = 10
"""Seconds that an idle connection is kept: longer than clients keep it (httpx 5), else we may close it just as they ask."""


@contextmanager
def listening(host: str, port: int, what: str) -> Iterator[socket.socket]:
    """A listening TCP socket; port 0 takes any free one.

    Raises:
        StartError: it cannot be had; `what` says in the text what it was for.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise StartError(
            f"cannot listen on {host} port {port} for {what}: {error.strerror or error}"
        ) from None
    with listener:
        yield listener


def port_of(listener: socket.socket) -> int:
    """The port a socket listens on."""
    return cast(int, listener.getsockname()[1])


@asynccontextmanager
async def served(
    app: Any, listener: socket.socket, lifespan: Literal["on", "off"], connections: Connections | None = None
) -> AsyncIterator[None]:
    """Serves an ASGI application; at the end, requests in hand get `GRACE_S` seconds.

    `connections`: how many there may be and how long they may take; by default what the process may open.
    """
    connections = connections or Connections(most_connections())
    config = uvicorn.Config(
        app,
        http=protocol(connections),
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=connections.most + 1,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]))
    try:
        while not server.started:
            if task.done():
                await task
                raise StartError("an HTTP server ended before it began")
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: one process, one event loop, one place that stops it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
