"""Where messages go and lie: destinations and positions; and what is the same for every hop to one of them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

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
    SETTLE_OUTCOME,
    STREAM,
    Operation,
    SettleOutcome,
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

    def attributes(self) -> Attributes:
        """Return the attributes that name the position."""
        ...


class KafkaPosition(NamedTuple):
    """Partition and offset of a record within its topic."""

    partition: int
    offset: int

    def attributes(self) -> Attributes:
        """Return partition id and offset as the conventions spell them."""
        return {MESSAGING_DESTINATION_PARTITION_ID: str(self.partition), KAFKA_OFFSET: self.offset}


class StreamPosition(NamedTuple):
    """JetStream stream and sequence of a message."""

    stream: str
    sequence: int

    def attributes(self) -> Attributes:
        """Return stream and sequence; no convention exists for them."""
        return {STREAM: self.stream, SEQUENCE: self.sequence}


class Prepared(NamedTuple):
    """What all hops of one kind to one destination share."""

    span_name: str
    attributes: dict[str, AttributeValue]
    destination: Destination


class Preparations:
    """The last destinations of one transport; a hop to one of them copies what was prepared for it."""

    LIMIT: Final = 1_024
    """Destinations kept. Subjects that hold ids are without number: then all are forgotten, and most come back."""

    def __init__(self, system: System | str) -> None:
        self._system = str(system)
        self._known: dict[tuple[object, ...], Prepared] = {}

    def of(
        self, name: str, operation: Operation, destination: Destination, receiver: str | None = None
    ) -> Prepared:
        """Return what was prepared for this operation, prepared now if it is the first of its kind."""
        key = (name, operation, destination.name, destination.address, receiver)
        known = self._known.get(key)
        if known is not None:
            given, kept = destination.attributes, known.destination.attributes
            if given is kept or given == kept:
                return known
        if len(self._known) >= self.LIMIT:
            self._known.clear()
        prepared = self._known[key] = self._prepare(name, operation, destination, receiver)
        return prepared

    def _prepare(
        self, name: str, operation: Operation, destination: Destination, receiver: str | None
    ) -> Prepared:
        attributes: dict[str, AttributeValue] = {
            MESSAGING_SYSTEM: self._system,
            MESSAGING_OPERATION_NAME: name,
            MESSAGING_OPERATION_TYPE: operation.value,
            **plain(naming(destination)),
        }
        if receiver is not None:
            attributes[RECEIVER] = receiver
        if operation is Operation.PROCESS:
            attributes[SETTLE_OUTCOME] = SettleOutcome.NONE.value  # until it is settled
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
