"""Where messages go and lie: destinations and positions; and what is the same for every hop to one of them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from opentelemetry.util.types import AttributeValue

from hopwatch.conventions import (
    DESTINATION,
    KAFKA_OFFSET,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_DESTINATION_PARTITION_ID,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
    RECEIVER,
    SEQUENCE,
    STREAM,
    Operation,
    System,
)

Attributes = Mapping[str, AttributeValue]
"""What a span says. Values are plain: str, bool, int, float, or a tuple of one of these; no enums, no lists."""

_NONE: Final[Attributes] = MappingProxyType({})


class Destination(NamedTuple):
    """Where a message goes or came from.

    `name` follows the messaging conventions (`messaging.destination.name`); `address` is spelled the same by
    sender and receiver (`hopwatch.destination`); `attributes` are the system's own.
    """

    name: str
    address: str
    attributes: Attributes = _NONE


class Position(Protocol):
    """Where a message lies in its broker, as span attributes."""

    def attributes(self) -> dict[str, AttributeValue]:
        """Return the attributes that name the position, as a new dict."""
        ...


class KafkaPosition(NamedTuple):
    """Partition and offset of a record within its topic."""

    partition: int
    offset: int

    def attributes(self) -> dict[str, AttributeValue]:
        """Return partition id and offset as the conventions spell them."""
        return {MESSAGING_DESTINATION_PARTITION_ID: str(self.partition), KAFKA_OFFSET: self.offset}


class StreamPosition(NamedTuple):
    """JetStream stream and sequence of a message."""

    stream: str
    sequence: int

    def attributes(self) -> dict[str, AttributeValue]:
        """Return stream and sequence; no convention exists for them."""
        return {STREAM: self.stream, SEQUENCE: self.sequence}


class Prepared:
    """What all hops of one kind to one destination share; nobody changes it."""

    __slots__ = ("attributes", "destination", "encoded", "span_name")

    def __init__(
        self, span_name: str, attributes: dict[str, AttributeValue], destination: Destination
    ) -> None:
        self.span_name = span_name
        self.attributes = attributes
        self.destination = destination
        self.encoded: tuple[bytes, bytes] | None = None
        """Name and attributes as the exporter writes them, once it has."""


class Preparations:
    """The last destinations of one operation of a transport; all hops to one of them share what was prepared for it."""

    LIMIT: Final = 1_024
    """Destinations kept. Subjects that hold ids are without number: then all are forgotten, and most come back."""

    def __init__(self, system: System | str, operation: Operation) -> None:
        self._system = str(system)
        self._operation = operation.value
        self._known: dict[tuple[str, str, str, str | None], Prepared] = {}
        self._last: tuple[Any, Any, Any, Any] = (None, None, None, None)

    def of(self, name: str, destination: Destination, receiver: str | None = None) -> Prepared:
        """Return what was prepared for this destination, prepared now if it is the first time."""
        known_destination, known_name, known_receiver, prepared = self._last
        if known_destination is destination and known_name is name and known_receiver is receiver:
            found: Prepared = prepared
            return found
        found = self._of(name, destination, receiver)
        self._last = destination, name, receiver, found  # replaced as one, so that threads do not mix
        return found

    def _of(self, name: str, destination: Destination, receiver: str | None) -> Prepared:
        title, address, attributes = destination
        key = (name, title, address, receiver)
        known = self._known.get(key)
        if known is not None:
            kept = known.destination.attributes
            if attributes is kept or attributes == kept:
                return known
        if len(self._known) >= self.LIMIT:
            self._known.clear()
        prepared = self._known[key] = self._prepare(name, destination, receiver)
        return prepared

    def _prepare(self, name: str, destination: Destination, receiver: str | None) -> Prepared:
        attributes: dict[str, AttributeValue] = {
            MESSAGING_SYSTEM: self._system,
            MESSAGING_OPERATION_NAME: name,
            MESSAGING_OPERATION_TYPE: self._operation,
            **plain(naming(destination)),
        }
        if receiver is not None:
            attributes[RECEIVER] = receiver
        return Prepared(f"{name} {destination.name}", attributes, destination)


def naming(destination: Destination) -> dict[str, AttributeValue]:
    """Return what a span says of its destination."""
    return {
        MESSAGING_DESTINATION_NAME: destination.name,
        DESTINATION: destination.address,
        **destination.attributes,
    }


def plain(attributes: Attributes) -> Attributes:
    """Return attributes as the lean span takes them without a look: texts that are enumerations become texts."""
    if _PLAIN.issuperset(map(type, attributes.values())):
        return attributes
    return {name: _plain(value) for name, value in attributes.items()}


def _plain(value: AttributeValue) -> AttributeValue:
    if isinstance(value, str):
        return str.__str__(value)
    return tuple(value) if isinstance(value, list) else value


_PLAIN: Final = frozenset({str, bool, int, float, tuple})
