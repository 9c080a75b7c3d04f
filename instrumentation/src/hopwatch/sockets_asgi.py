"""WebSockets of an ASGI application: the handshake is a call, each message after it a hop."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.util.types import AttributeValue

from hopwatch.calls import CallHop
from hopwatch.conventions import ENVELOPE_HEADER, HTTP_ROUTE, HTTP_STATUS
from hopwatch.sockets import Conversation, Sending, Sockets
from hopwatch.w3c import TRAVELLING
from hopwatch.wrapping import guarded

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Opening:
    """A connection that was asked for."""

    path: str
    headers: Iterable[tuple[bytes, bytes]]
    hop: CallHop
    route: Callable[[], str | None]
    """Tells the route's template once a router has found it."""

    def fields(self) -> dict[str, str]:
        """Return what travels with the handshake."""
        texts = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in self.headers)
        return {name: value for name, value in texts if name in TRAVELLING}

    def envelope(self) -> str | None:
        """Return what the client says of envelopes."""
        name = ENVELOPE_HEADER.encode()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == name), None)


class Connection:
    """What stands between server and application for one WebSocket."""

    def __init__(self, sockets: Sockets, opening: Opening, receive: Receive, send: Send) -> None:
        self._sockets = sockets
        self._opening = opening
        self._receive = receive
        self._send = send
        self._envelope = sockets.agreed(opening.envelope())
        self._conversation: Conversation | None = None

    async def receive(self) -> Message:
        """Receive an event; a message is in the application's hands until it asks for the next."""
        if self._conversation is not None:
            self._conversation.back()
        event = await self._receive()
        return self._received(event) or event

    async def send(self, event: Message) -> None:
        """Send an event."""
        kind = event["type"]
        if kind == "websocket.send" and self._conversation is not None:
            await self._say(self._conversation, event)
            return
        if kind == "websocket.accept":
            event = self._accepting(event) or event
        await self._send(event)
        self._sent(event)

    def end(self, error: BaseException | None = None) -> None:
        """End what the application left open."""
        if not self._opening.hop.ended:
            self._opening.hop.end(error=error, error_type="" if error else "incomplete_response")
        if self._conversation is not None:
            self._conversation.closed(None if error is None else 1011, error=error)

    async def _say(self, conversation: Conversation, event: Message) -> None:
        sending = conversation.sending()
        if sending is None:
            await self._send(event)
            return
        try:
            await self._send(_in_envelope(sending, event) or event if sending.in_envelope else event)
        except BaseException as error:
            sending.failed(error, closed=isinstance(error, OSError))
            raise
        sending.done()

    @guarded
    def _received(self, event: Message) -> Message | None:
        conversation = self._conversation
        if conversation is None:
            return None
        if event["type"] == "websocket.disconnect":
            conversation.closed(event.get("code"), event.get("reason") or "")
        if event["type"] != "websocket.receive":
            return None
        key = "text" if event.get("text") is not None else "bytes"
        payload = conversation.received(event[key], passing=1)
        return {**event, key: payload}

    @guarded
    def _accepting(self, event: Message) -> Message | None:
        opening = self._opening
        self._conversation = Conversation(
            self._sockets,
            opening.path,
            opening.fields(),
            opening.hop.context,
            asked=False,
            envelope=self._envelope,
        )
        if not self._envelope:
            return None
        offered = [(name.encode(), value.encode()) for name, value in self._sockets.offer().items()]
        return {**event, "headers": [*event.get("headers", ()), *offered]}

    def _taken(self, hop: CallHop) -> dict[str, AttributeValue]:
        """Name the handshake by the route that took it."""
        route = self._opening.route()
        if route is None:
            return {}
        hop.rename(f"GET {route}", route)
        return {HTTP_ROUTE: route}

    @guarded
    def _sent(self, event: Message) -> None:
        kind, hop = event["type"], self._opening.hop
        if kind == "websocket.accept":
            hop.end(self._taken(hop) | {HTTP_STATUS: 101})
        elif kind == "websocket.http.response.start":
            hop.end({HTTP_STATUS: event["status"]})
        elif kind == "websocket.close":
            if self._conversation is None:
                hop.end({HTTP_STATUS: 403})  # so says the specification of a close before the accept
            else:
                self._conversation.closing()
                self._conversation.closed(event.get("code", 1000), event.get("reason") or "")


@guarded
def _in_envelope(sending: Sending, event: Message) -> Message:
    key = "text" if event.get("text") is not None else "bytes"
    return {**event, key: sending.wrapped(event[key])}
