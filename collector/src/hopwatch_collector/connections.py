"""Connections to the collector's HTTP servers: how many there may be, of whom, and how long one may take to say what it wants.

A connection costs a file descriptor until it is closed, whoever holds it and whether or not they have a token. Without bounds, a
thousand half-open ones take the ports from everybody.
"""

import asyncio
import resource
from collections import Counter
from typing import Final

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hopwatch_collector.errors import StartError

_log = structlog.get_logger("hopwatch.listen")

HEAD_S: Final = 10.0
"""Seconds within which a request's head has to be there, from the connection's beginning or the head's first byte."""
_MOST: Final = 4096
_RESERVE: Final = 256
"""File descriptors for the journal, the engine, brokers and gRPC."""
_NEEDED: Final = 512
_SERVERS: Final = 2
_QUARTERS_OF_ONE: Final = 3
"""Of four quarters of the connections, how many one peer may hold: others get in beside it, and a gateway is not held up."""


def require_files() -> None:
    """Let this process have as many files open as its user may. Raises StartError where they are too few to work with."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _NEEDED:
        raise StartError(
            f"the process may have {hard} files open, and the engine and connections need {_NEEDED}: raise the limit (ulimit -n, "
            "LimitNOFILE= of systemd, --ulimit nofile= of docker)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections() -> int:
    """Return how many connections one of our servers may hold: what the process may open, less a reserve, shared among them."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return max(16, min(_MOST, (soft - _RESERVE) // _SERVERS))


class Connections:
    """The connections that one server holds. Belongs to one event loop."""

    def __init__(self, most: int, head_s: float = HEAD_S) -> None:
        """`most`: in all; one peer may hold three quarters of them, so that others get in beside it."""
        self.most = most
        self.most_of_one = max(1, most * _QUARTERS_OF_ONE // 4)
        self.head_s = head_s
        self._by_peer: Counter[str] = Counter()
        self._told: set[str] = set()

    def enter(self, peer: str) -> bool:
        """Count a connection in, and say whether it may stay; `leave` it in any case."""
        self._by_peer[peer] += 1
        full = self._by_peer.total() > self.most or self._by_peer[peer] > self.most_of_one
        if full and peer not in self._told:
            self._told.add(peer)
            _log.warning(
                "connections refused",
                peer=peer,
                held=self._by_peer[peer],
                held_in_all=self._by_peer.total(),
                most=self.most,
                most_of_one_peer=self.most_of_one,
            )
        return not full

    def leave(self, peer: str) -> None:
        """Count a connection out."""
        self._by_peer[peer] -= 1
        if self._by_peer[peer] <= 0:
            del self._by_peer[peer]
            self._told.discard(peer)


def protocol(connections: Connections) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with these bounds."""

    class Bounded(HttpToolsProtocol):
        """One connection."""

        _peer = ""
        _head: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
            super().connection_made(transport)
            address = transport.get_extra_info("peername")
            self._peer = str(address[0]) if isinstance(address, tuple) else ""
            if connections.enter(self._peer):
                self._await_head()
            else:
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self._have_head()
            connections.leave(self._peer)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            # A head that begins on a connection that was kept has its time from there; uvicorn's own timer ends with its first byte.
            if self._head is None and (self.cycle is None or self.cycle.response_complete):
                self._await_head()
            super().data_received(data)

        def on_headers_complete(self) -> None:
            self._have_head()
            super().on_headers_complete()

        def _await_head(self) -> None:
            self._head = self.loop.call_later(connections.head_s, self._too_late)

        def _have_head(self) -> None:
            if self._head is not None:
                self._head.cancel()
                self._head = None

        def _too_late(self) -> None:
            self._head = None
            self.transport.abort()

    return Bounded
