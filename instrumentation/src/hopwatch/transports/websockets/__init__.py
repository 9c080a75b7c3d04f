"""websockets, asyncio and blocking, client and server: the handshake is a call, each message after it a hop.

Servers and clients of the library's legacy implementation are left alone.
"""

from opentelemetry.trace import Tracer
from websockets.asyncio import client as aio_client
from websockets.asyncio import connection as aio_connection
from websockets.asyncio import server as aio_server
from websockets.protocol import Protocol
from websockets.sync import client as sync_client
from websockets.sync import connection as sync_connection
from websockets.sync import server as sync_server

from hopwatch.calls import Calls
from hopwatch.hooks import hook_for
from hopwatch.instrumentor import PatchingInstrumentor
from hopwatch.sockets import Sockets
from hopwatch.transports.websockets.handshake import Handshakes
from hopwatch.transports.websockets.messages import Messages
from hopwatch.wrapping import Patches

__all__ = ["WebSocketsInstrumentor"]


class WebSocketsInstrumentor(PatchingInstrumentor):
    """Wraps connections; those opened before are not counted from their beginning, and so are left alone."""

    takes_hooks = True
    library = "websockets"
    requires = "websockets >= 14, < 18"

    def patch(self, patches: Patches, tracer: Tracer) -> None:
        """Put the wrappers around handshakes and messages of both APIs."""
        messages = Messages()
        hook = hook_for(self.library)
        handshakes = Handshakes(Calls(tracer, hook=hook), Sockets.of(tracer, hook), messages)
        patches.wrap(aio_client.ClientConnection, "handshake", handshakes.ask)
        patches.wrap(aio_client.connect, _connecting(aio_client.connect), handshakes.connect)
        patches.wrap(aio_server.ServerConnection, "handshake", handshakes.answer)
        patches.wrap(aio_connection.Connection, "send", messages.send)
        patches.wrap(aio_connection.Connection, "recv", messages.recv)
        patches.wrap(aio_connection.Connection, "recv_streaming", messages.recv_streaming)
        patches.wrap(aio_connection.Connection, "close", messages.closing)
        patches.wrap(aio_connection.Connection, "connection_lost", messages.lost)

        patches.wrap(sync_client.ClientConnection, "handshake", handshakes.ask_blocking)
        patches.wrap(sync_server.ServerConnection, "handshake", handshakes.answer_blocking)
        patches.wrap(sync_connection.Connection, "send", messages.send_blocking)
        patches.wrap(sync_connection.Connection, "recv", messages.recv_blocking)
        patches.wrap(sync_connection.Connection, "recv_streaming", messages.recv_streaming_blocking)
        patches.wrap(sync_connection.Connection, "close", messages.closing)
        patches.wrap(sync_connection.Connection, "recv_events", messages.lost)
        for way in ("send_text", "send_binary"):
            patches.wrap(Protocol, way, messages.push)


def _connecting(connect: type) -> str:
    """Return the name of the method that opens a connection; it was private before websockets 17."""
    return "connect" if "connect" in vars(connect) else "__await_impl__"
