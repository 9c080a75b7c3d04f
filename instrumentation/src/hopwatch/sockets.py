"""WebSockets: every message is a hop with an id of its own, without a byte more on the wire than the handshake has.

Both ends count the messages of a connection that go each way. The handshake carries the message id of the call it is;
from it, the direction and the number both derive the same id for a message. What the messages carry on top is only
agreed: two ends that both ask for it (`HOPWATCH_WEBSOCKET_ENVELOPE`) put the context of each message in front of it.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer

from hopwatch.conventions import (
    ENVELOPE_HEADER,
    MESSAGE_ID_HEADER,
    MESSAGES_RECEIVED,
    MESSAGES_SENT,
    REASON,
    WEBSOCKET_CLOSE_CODE,
    Ending,
    PublishOutcome,
    SettleOutcome,
    System,
)
from hopwatch.holding import is_payload_held
from hopwatch.hooks import Hook
from hopwatch.hops import MAX_REASON_LENGTH, ProcessHop, SendHop
from hopwatch.ids import is_message_id, new_message_id
from hopwatch.places import Attributes, Destination
from hopwatch.recorder import Recorder
from hopwatch.wrapping import guarded, service_name

Payload = str | bytes

_MARK: Final = "\x1ehopwatch"
_END: Final = "\x1e"
_MAX_ENVELOPE: Final = 8_192
_AGREED = frozenset({"1", "true"})
_ID = re.compile(r"\d+|[0-9a-f]{16,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sockets:
    """What the conversations of one transport record with."""

    recorder: Recorder
    tracer: Tracer
    hook: Hook | None = None

    @classmethod
    def of(cls, tracer: Tracer, hook: Hook | None = None) -> "Sockets":
        """Return what conversations record with through one tracer."""
        return cls(Recorder(System.WEBSOCKET, tracer, hook), tracer, hook)

    def shaped(self, attributes: Attributes) -> Attributes:
        """Return attributes as they are to be recorded."""
        return attributes if self.hook is None else self.hook.redacted(attributes)

    @property
    def wants_envelope(self) -> bool:
        """Whether this side asks for envelopes."""
        return self.recorder.opted.envelope

    def offer(self) -> dict[str, str]:
        """Return the headers that say in a handshake what this side would do."""
        return {ENVELOPE_HEADER: "1"} if self.wants_envelope else {}

    def agreed(self, theirs: str | None) -> bool:
        """Whether both sides asked for envelopes."""
        return self.wants_envelope and theirs is not None and theirs.strip().lower() in _AGREED


class Conversation:
    """One side of a connection after its handshake: what goes out, what comes in, and in whose hands that is."""

    def __init__(
        self,
        sockets: Sockets,
        path: str,
        fields: Mapping[str, str],
        context: Context,
        *,
        asked: bool,
        envelope: bool,
    ) -> None:
        """`fields` are what the handshake carried, `context` is that of its span; `asked` is true for the client."""
        self._sockets = sockets
        place = general(path)
        self._destination = Destination(place, place)
        self._fields = dict(fields)
        if not _names_a_message(self._fields):  # the other end knows nothing of us
            self._fields = {}
            propagate.inject(self._fields, context)
        self._id = self._fields.get(MESSAGE_ID_HEADER) or new_message_id()
        self._context = context
        self._out, self._in = ("c", "s") if asked else ("s", "c")
        self._envelope = envelope
        self._sent = self._received = 0
        self._hop: ProcessHop | None = None
        self._payload: Payload | None = None
        self._kept = 0
        """How many references to it the library keeps."""
        self._closed = False

    @guarded
    def sending(self) -> "Sending":
        """Begin the sending of a message."""
        self._sent += 1
        carrier: dict[str, str] = {}
        hop = self._sockets.recorder.send(
            "send",
            self._destination,
            carrier=carrier,
            message_id=derived_id(self._id, self._out, self._sent),
            context=self._own_or_current(),
        )
        return Sending(self, hop, carrier if self._envelope else None, self._sent)

    def unsent(self, number: int) -> None:
        """Take back the number of a message that was none: the other end will not count it."""
        if number == self._sent:
            self._sent -= 1

    @guarded
    def back(self, error: BaseException | None = None) -> None:
        """Note that the application is back for more, or failed: it is done with what it got before, unless it handed that on."""
        if self._hop is None:
            return
        if error is None and is_payload_held(self._payload, beside=1 + self._kept, lists=True):
            self._hop.let_go(Ending.HELD)
        self._done(error)

    def _done(self, error: BaseException | None) -> None:
        hop, self._hop, self._payload = self._hop, None, None
        if hop is not None:
            hop.end(error)
            hop.detach()

    def received(self, payload: Payload, *, passing: int = 0) -> Payload:
        """Begin the processing of a message; return what of it is the application's.

        `passing`: how many references of the caller's there are to it that go away when it is given on.
        """
        self._kept = sys.getrefcount(payload) - 2 - passing  # less this parameter, and the call's
        opened = opened_envelope(payload) if self._envelope else None
        fields: Mapping[str, str] = {}
        if opened is not None:
            fields, payload = opened
            self._kept = 0
        self._begin(fields)
        self._payload = payload
        return payload

    @guarded
    def closing(self) -> None:
        """Note that the application closes the connection: because of an exception, maybe, which what it has in hand met with."""
        error = sys.exception()
        if error is not None:
            self.back(error)

    @guarded
    def closed(self, code: int | None, reason: str = "", error: BaseException | None = None) -> None:
        """Note the end of the connection, and of what is still in hand; leaves a short span behind."""
        if self._closed:
            return
        self._closed = True
        self._done(error)  # whose variables bear it cannot be seen: most often it is the library that says so
        attributes: dict[str, Any] = {
            WEBSOCKET_CLOSE_CODE: 1006 if code is None else code,
            MESSAGES_SENT: self._sent,
            MESSAGES_RECEIVED: self._received,
        }
        if reason:
            attributes[REASON] = reason[:MAX_REASON_LENGTH]
        self._sockets.tracer.start_span(
            f"close {self._destination.name}",
            self._context,
            SpanKind.INTERNAL,
            self._sockets.shaped(attributes),
        ).end()

    @guarded
    def _begin(self, fields: Mapping[str, str]) -> None:
        self._received += 1
        derived = derived_id(self._id, self._in, self._received)
        carrier = fields if _names_a_message(fields) else {**self._fields, MESSAGE_ID_HEADER: derived}
        self._hop = self._sockets.recorder.process(
            "process", self._destination, receiver=service_name(), carrier=carrier
        )
        self._hop.settled(SettleOutcome.AUTO)

    def _own_or_current(self) -> Context:
        """Return the current context, or the connection's where nothing is in progress."""
        if trace.get_current_span().get_span_context().is_valid:
            return otel_context.get_current()
        return self._context


class Sending:
    """A message on its way out."""

    def __init__(
        self, conversation: Conversation, hop: SendHop, carrier: Mapping[str, str] | None, number: int
    ) -> None:
        self._conversation = conversation
        self._hop = hop
        self._number = number
        self._prefix = "" if carrier is None else f"{_MARK}{json.dumps(carrier, separators=(',', ':'))}{_END}"

    @property
    def in_envelope(self) -> bool:
        """Whether the message goes out with its context in front of it."""
        return bool(self._prefix)

    def wrapped(self, payload: Payload) -> Payload:
        """Return what goes out for a payload."""
        return self._prefix + payload if isinstance(payload, str) else self._prefix.encode() + payload

    def done(self) -> None:
        """Note that the message went out; what becomes of it nobody says."""
        self._hop.end(PublishOutcome.SENT)

    def failed(self, error: BaseException, *, closed: bool = False) -> None:
        """Note that it did not: the connection was closed, or the message was none."""
        if isinstance(error, TypeError | ValueError):
            self._conversation.unsent(self._number)
            self._hop.end(PublishOutcome.REFUSED, error=error)
        else:
            self._hop.end(PublishOutcome.RETURNED if closed else PublishOutcome.UNCONFIRMED, error=error)


def _names_a_message(fields: Mapping[str, str]) -> bool:
    return is_message_id(fields.get(MESSAGE_ID_HEADER, ""))


def derived_id(connection: str, direction: str, number: int) -> str:
    """Return the id of a message: a UUIDv7 of the connection's time, the rest from connection, direction and number."""
    digest = blake2b(f"{connection}:{direction}:{number}".encode(), digest_size=16).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{connection[:13]}-7{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:]}"


def opened_envelope(payload: Payload) -> tuple[Mapping[str, str], Payload] | None:
    """Return context and payload of a message in an envelope, None if it is in none; it comes from outside."""
    mark: Any = _MARK if isinstance(payload, str) else _MARK.encode()
    end: Any = _END if isinstance(payload, str) else _END.encode()
    text: Any = payload
    if not text.startswith(mark):
        return None
    until = text.find(end, len(mark), _MAX_ENVELOPE)
    try:
        found = json.loads(text[len(mark) : until]) if until > 0 else None
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    fields = {name: value for name, value in found.items() if isinstance(value, str)}
    return fields, text[until + 1 :]


def general(path: str) -> str:
    """Return the path of a connection with ids in it generalised, so that both ends spell few places alike."""
    segments = path.partition("?")[0].partition("#")[0].split("/")
    return "/".join("*" if _ID.fullmatch(segment) else segment for segment in segments) or "/"
