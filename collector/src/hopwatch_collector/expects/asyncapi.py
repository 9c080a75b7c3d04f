"""AsyncAPI 3 documents: who receives what, from the `receive` operations, the channels they are on, and the bindings.

Only what is needed for that is read, and only references within the document are followed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeGuard
from urllib.parse import unquote

from hopwatch_collector.errors import SettingsError
from hopwatch_collector.expects import patterns
from hopwatch_collector.expects.documents import Document, Place, read, shown
from hopwatch_collector.expects.model import MAX_NAME, Expectation

_VERSION: Final = re.compile(r"3\.\d+\.\d+")
_SYSTEMS: Final = {
    "kafka": "kafka",
    "kafka-secure": "kafka",
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "nats": "nats",
}
_BINDINGS: Final = {"kafka": "kafka", "rabbitmq": "amqp", "nats": "nats"}
_MOST_REFS: Final = 16
"""References that may lead to one another before we take them for a circle."""

RECEIVER: Final = "x-hopwatch-receiver"
"""On an operation: its receiver as the ledger spells it, where no binding says it, such as `stream/consumer`."""
SERVICE: Final = "x-hopwatch-service"
"""In `info`: the service's name as OpenTelemetry knows it, for subscribers of plain NATS subjects."""

_HOW: Final = {
    "kafka": f"add bindings.kafka.groupId with its consumer group as `const` or `enum`, or {RECEIVER}",
    "nats": f"add bindings.nats.queue, {RECEIVER} with `stream/consumer`, or {SERVICE} in `info` for a plain subscriber",
    "rabbitmq": f"add the channel's bindings.amqp.queue.name, or {RECEIVER} with the queue",
}


@dataclass(slots=True)
class Told:
    """What a document declares, and what of it could not be used, in words."""

    expectations: list[Expectation] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def read_asyncapi(path: Path) -> Told:
    """Read the receivers of an AsyncAPI document.

    Raises:
        SettingsError: it cannot be read, is not AsyncAPI 3, or refers to what is not there; the text says where.
    """
    reader = _Reader(read(path))
    reader.check_version()
    for name, operation in reader.operations():
        reader.receive(name, operation)
    if not reader.told.expectations and not reader.told.left_out:
        reader.told.left_out.append(
            f"{path.name}: no operation with `action: receive` on Kafka, AMQP or NATS, so it declares nobody"
        )
    return reader.told


@dataclass(frozen=True, slots=True)
class _Part:
    """A mapping in the document, and where it is."""

    value: Mapping[str, Any]
    place: Place

    def get(self, key: str) -> Any:
        return self.value.get(key)


class _Reader:
    def __init__(self, document: Document) -> None:
        self._document = document
        self.told = Told()

    def check_version(self) -> None:
        """Refuse what is not AsyncAPI 3."""
        root = self._document.value
        version = root.get("asyncapi") if _is_mapping(root) else None
        if not isinstance(version, str):
            raise SettingsError(
                f"{self._document.where()}: not an AsyncAPI document: it has no `asyncapi: 3.0.0`"
            )
        if not _VERSION.fullmatch(version):
            raise SettingsError(
                f"{self._document.where(('asyncapi',))}: AsyncAPI {version[:20]} is not read, 3.0 is: convert it with "
                "`asyncapi convert`"
            )

    def operations(self) -> Iterator[tuple[str, _Part]]:
        """The operations that receive."""
        for name, operation in self._parts(_Part(self._document.value, ()), "operations"):
            if operation.get("action") == "receive":
                yield shown(name), operation

    def receive(self, name: str, operation: _Part) -> None:
        """Take in one operation, once per kind of broker it is on."""
        channel = self._part(operation, "channel")
        if channel is None:
            self._leave_out(operation, f"operation {name}: names no channel")
            return
        protocols = self._protocols(operation, channel)
        if not protocols:
            self._leave_out(
                channel, f"operation {name}: no server says by its `protocol` what its channel is on"
            )
        for system in sorted({_SYSTEMS[protocol] for protocol in protocols if protocol in _SYSTEMS}):
            self._receive(name, operation, channel, system)

    def _receive(self, name: str, operation: _Part, channel: _Part, system: str) -> None:
        on_channel = self._bindings(channel, system)
        address = self._address(channel, on_channel, system)
        if address is None:
            self._leave_out(
                channel, f"operation {name}: the address of its channel is only known when it runs"
            )
            return
        receivers = self._receivers(operation, on_channel, system, address)
        if any(patterns.PARAMETER.search(receiver) for receiver in receivers):
            self._leave_out(
                operation, f"operation {name}: its receiver is only known when it runs: {_HOW[system]}"
            )
            return
        if not receivers:
            self._leave_out(
                operation, f"operation {name}: nothing says who receives on {system}: {_HOW[system]}"
            )
            return
        source = f"operation {name} in {self._document.path.name}"
        try:
            pattern = patterns.address(system, address, _exchange(on_channel) if system == "rabbitmq" else "")
            self.told.expectations += [
                Expectation(system, pattern, patterns.name(receiver), source[:MAX_NAME])
                for receiver in receivers
            ]
        except ValueError as error:
            raise SettingsError(f"{self._document.where(channel.place)}: operation {name}: {error}") from None

    def _protocols(self, operation: _Part, channel: _Part) -> list[str]:
        """What a channel is on: what its servers say, or what it has bindings for where there are none."""
        root = _Part(self._document.value, ())
        servers = self._parts(channel, "servers") or self._parts(root, "servers")
        if servers:
            return [str(server.get("protocol")).lower() for _, server in servers]
        return [*self._all_bindings(channel), *self._all_bindings(operation)]

    def _address(self, channel: _Part, binding: Mapping[str, Any], system: str) -> str | None:
        """Where messages on a channel are sent; None: nobody knows before they are."""
        if system == "kafka" and isinstance(binding.get("topic"), str):
            return str(binding["topic"])
        if system == "rabbitmq" and _by_queue(binding) and _queue(binding):
            return _queue(binding)
        if system == "rabbitmq" and _exchange(binding) and binding["exchange"].get("type") == "fanout":
            return "#"  # whatever the routing key
        address = channel.get("address")
        return address if isinstance(address, str) and address else None

    def _receivers(
        self, operation: _Part, on_channel: Mapping[str, Any], system: str, address: str
    ) -> list[str]:
        told = operation.get(RECEIVER)
        if told is not None:
            return _texts(told)
        binding = self._bindings(operation, system)
        if system == "kafka":
            return _of_schema(binding.get("groupId"))
        if system == "nats":
            return _texts(binding.get("queue")) or self._plain_subscribers(address)
        return _texts(_queue(on_channel)) or ([address] if _by_queue(on_channel) else [])

    def _plain_subscribers(self, address: str) -> list[str]:
        info = self._part(_Part(self._document.value, ()), "info")
        subject = patterns.address("nats", address).text
        return [f"{service}:{subject}" for service in _texts(info.get(SERVICE) if info else None)]

    def _bindings(self, part: _Part, system: str) -> Mapping[str, Any]:
        found = self._all_bindings(part).get(_BINDINGS[system])
        return found if _is_mapping(found) else {}

    def _all_bindings(self, part: _Part) -> Mapping[str, Any]:
        """The bindings of a channel or operation, over those of its traits."""
        found: dict[str, Any] = {}
        for _, trait in self._parts(part, "traits"):
            found |= self._all_bindings(trait)
        own = self._part(part, "bindings")
        for protocol in own.value if own else ():
            binding = self._part(own, protocol) if own else None
            found[protocol] = binding.value if binding else {}
        return found

    def _parts(self, part: _Part, key: str) -> list[tuple[str, _Part]]:
        """The mappings in a mapping or list of a part, references followed."""
        inner = part.get(key)
        items = inner.items() if _is_mapping(inner) else enumerate(inner) if isinstance(inner, list) else ()
        return [
            (str(step), self._follow(_Part(value, (*part.place, key, step))))
            for step, value in items
            if _is_mapping(value) and not str(step).startswith("x-")
        ]

    def _part(self, part: _Part, key: str) -> _Part | None:
        inner = part.get(key)
        return self._follow(_Part(inner, (*part.place, key))) if _is_mapping(inner) else None

    def _follow(self, part: _Part) -> _Part:
        """What a part refers to, if it is a reference."""
        began = part
        for _ in range(_MOST_REFS):
            reference = part.get("$ref")
            if not isinstance(reference, str):
                return part
            part = self._referred(part, reference)
        raise SettingsError(f"{self._document.where(began.place)}: its references lead in a circle")

    def _referred(self, part: _Part, reference: str) -> _Part:
        where = self._document.where(part.place)
        if not reference.startswith("#/"):
            raise SettingsError(
                f"{where}: {reference[:200]!r} is in another document: make one of them with `asyncapi bundle`"
            )
        place: list[str | int] = []
        value = self._document.value
        for step in reference[2:].split("/"):
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            index = isinstance(value, list) and re.fullmatch("[0-9]{1,9}", key) and int(key) < len(value)
            if not index and not (_is_mapping(value) and key in value):
                raise SettingsError(f"{where}: there is no {reference[:200]!r} in the document")
            place.append(int(key) if index else key)
            value = value[place[-1]]
        if not _is_mapping(value):
            raise SettingsError(f"{where}: {reference[:200]!r} is not a mapping")
        return _Part(value, place)

    def _leave_out(self, part: _Part, why: str) -> None:
        self.told.left_out.append(f"{self._document.where(part.place)}: {why}")


def _is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str) and one]


def _of_schema(schema: object) -> list[str]:
    """The values that a schema allows, where it says; often the value itself is written in its place."""
    if _is_mapping(schema):
        return _texts(schema.get("const")) or _texts(schema.get("enum")) or _texts(schema.get("default"))
    return _texts(schema)


def _by_queue(binding: Mapping[str, Any]) -> bool:
    return binding.get("is") == "queue"


def _queue(binding: Mapping[str, Any]) -> str:
    queue = binding.get("queue")
    name = queue.get("name") if _is_mapping(queue) else None
    return name if isinstance(name, str) else ""


def _exchange(binding: Mapping[str, Any]) -> str:
    """The exchange that a channel's routing keys are for; none: the default one, which leads to the queue of that name."""
    exchange = binding.get("exchange")
    name = exchange.get("name") if _is_mapping(exchange) else None
    return name if isinstance(name, str) and not _by_queue(binding) else ""
