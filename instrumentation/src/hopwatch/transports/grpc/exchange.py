"""A gRPC call in progress, on either side: what it is called, what it carries, what its status means."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import grpc
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.util.types import AttributeValue

from hopwatch.calls import CallHop
from hopwatch.context import get_current
from hopwatch.conventions import (
    MESSAGE_ID_HEADER,
    MESSAGES_RECEIVED,
    MESSAGES_SENT,
    RPC_METHOD,
    RPC_STATUS,
    RPC_SYSTEM,
    PublishOutcome,
)
from hopwatch.places import Destination, Prepared
from hopwatch.ready import Ready
from hopwatch.w3c import TRACEPARENT, TRAVELLING, sender_in
from hopwatch.wrapping import as_text, guarded

Metadata = Sequence[tuple[str, Any]]

_UNREACHED = re.compile(r"connect|resol|lookup|no route|unreachable", re.IGNORECASE)
_SENT_AND_LOST = re.compile(r"socket closed|connection reset|broken pipe|goaway", re.IGNORECASE)
_OK: Final = grpc.StatusCode.OK
_UNANSWERED = frozenset({grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})
_FAULTS_OF_THE_SERVER = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)

CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
"""Status codes by their number."""


class Exchange:
    """One half of a call, with the messages that went each way where it streams."""

    __slots__ = ("_hop", "_reading", "_status", "received", "sent")

    def __init__(self, hop: CallHop, sends: bool, receives: bool) -> None:
        self._hop = hop
        self.sent: int | None = 0 if sends else None
        self.received: int | None = 0 if receives else None
        self._reading = False
        self._status: tuple[grpc.StatusCode, str | None] | None = None

    @property
    def context(self) -> Any:
        """The context of what is done within the call."""
        return self._hop.context

    @property
    def streams(self) -> bool:
        """Whether there are messages to count."""
        return self.sent is not None or self.received is not None

    def note_sent(self) -> None:
        """Count a message that went out."""
        if self.sent is not None:
            self.sent += 1
            if self.sent == 1:
                self._hop.streaming()

    def note_received(self) -> None:
        """Count a message that came in."""
        if self.received is not None:
            self.received += 1
            if self.received == 1:
                self._hop.streaming()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold a status back that overtakes the last message, while that is on its way to who reads."""
        self._reading = True
        try:
            yield
        finally:
            self._reading = False
            if self._status is not None:
                self.answered(*self._status)

    def over(self, code: grpc.StatusCode, details: str | None) -> None:
        """Note the status of a stream, which another thread than the reader's may bring."""
        self._status = code, details  # noted before looking: of the two at least one sees the other
        if not self._reading:
            self.answered(code, details)

    @guarded
    def answered(self, code: grpc.StatusCode, details: str | None = None) -> None:
        """End a caller's half: with an answer, or with what it means that there was none."""
        if code is _OK:
            self._hop.end(self._attributes(code))
            return
        self._hop.end(
            self._attributes(code),
            error_type=code.name,
            reason=details or "",
            outcome=outcome_of(code, details or ""),
        )

    @guarded
    def served(self, code: grpc.StatusCode, error: BaseException | None = None, details: str = "") -> None:
        """End a callee's half; some statuses are answers like any other, some say that it failed."""
        failed = code in _FAULTS_OF_THE_SERVER
        self._hop.end(
            self._attributes(code),
            error=error if failed else None,
            error_type=code.name if failed and error is None else "",
            reason=details if failed and error is None else "",
        )

    @guarded
    def failed(self, error: BaseException) -> None:
        """End a call that never became one: its request could not be serialized, say."""
        self._hop.end(error=error, outcome=PublishOutcome.REFUSED)

    def _attributes(self, code: grpc.StatusCode) -> dict[str, AttributeValue]:
        attributes = Ready()
        attributes[RPC_STATUS] = code._name_  # `name` asks the class first
        if self.sent is not None:
            attributes[MESSAGES_SENT] = self.sent
        if self.received is not None:
            attributes[MESSAGES_RECEIVED] = self.received
        return attributes


class Counted(Iterator[Any]):
    """A caller's or callee's messages, counted as they are taken."""

    def __init__(self, messages: Iterator[Any], note: Any) -> None:
        self._messages = messages
        self._note = note

    def __next__(self) -> Any:
        """Return the next message."""
        message = next(self._messages)
        self._note()
        return message

    def __getattr__(self, name: str) -> Any:
        """Be in all else what is counted."""
        return getattr(self._messages, name)


def outcome_of(code: grpc.StatusCode, details: str) -> PublishOutcome | None:
    """Return what a status says of the call if it is no answer, else None."""
    if code is not grpc.StatusCode.UNAVAILABLE:
        return PublishOutcome.UNCONFIRMED if code in _UNANSWERED else None
    unreached = _UNREACHED.search(details) and not _SENT_AND_LOST.search(details)
    return PublishOutcome.RETURNED if unreached else PublishOutcome.UNCONFIRMED


def prepared(method: str, server: dict[str, AttributeValue]) -> Prepared:
    """Return what is said of all calls of a method; `server` is where it is, as far as one knows."""
    name = method.lstrip("/")
    return Prepared(name, {RPC_SYSTEM: "grpc", RPC_METHOD: name, **server}, Destination(name, name))


class Services:
    """Which services are recorded: all but those in `OTEL_PYTHON_GRPC_EXCLUDED_SERVICES`, separated by commas."""

    def __init__(self) -> None:
        names = os.environ.get("OTEL_PYTHON_GRPC_EXCLUDED_SERVICES", "").split(",")
        self._excluded = frozenset(name.strip() for name in names if name.strip())

    def wanted(self, method: str) -> bool:
        """Whether a call of this method is recorded here and now."""
        if get_current() and not is_instrumentation_enabled():
            return False
        return not self._excluded or method.lstrip("/").partition("/")[0] not in self._excluded


class MetadataSetter(Setter[list[tuple[str, Any]]]):
    """Appends to a list of metadata, from which what an earlier hop put there was taken before."""

    def set(self, carrier: list[tuple[str, Any]], key: str, value: str) -> None:
        """Add a pair; names are lower-case in gRPC."""
        carrier.append((key.lower(), value))

    def fill(self, carrier: list[tuple[str, Any]], fields: Mapping[str, str]) -> None:
        """Add what travels with a message."""
        carrier.extend(fields.items())

    def ids(self, carrier: list[tuple[str, Any]], traceparent: str, message_id: str) -> None:
        """Add the two pairs that most messages carry."""
        carrier += ((TRACEPARENT, traceparent), (MESSAGE_ID_HEADER, message_id))


class MetadataGetter(Getter[Iterable[tuple[str, Any]]]):
    """Reads metadata, which are pairs of lower-case names and text or bytes."""

    def get(self, carrier: Iterable[tuple[str, Any]], key: str) -> list[str] | None:
        """Return the value of a name as a list of one, None if there is none."""
        for name, value in carrier:
            if name == key:
                text = as_text(value)
                return None if text is None else [text]
        return None

    sender = staticmethod(sender_in) if sender_in is not None else None

    def fields(self, carrier: Iterable[tuple[str, Any]]) -> dict[str, str]:
        """Return what `get` would for everything that travels with a message, in one pass."""
        return {
            name: text
            for name, value in carrier
            if name in TRAVELLING and (text := as_text(value)) is not None
        }

    def keys(self, carrier: Iterable[tuple[str, Any]]) -> list[str]:
        """Return all names."""
        return [name for name, _ in carrier]


metadata_setter: Final = MetadataSetter()
metadata_getter: Final = MetadataGetter()
