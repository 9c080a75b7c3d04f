"""Which server and which broker a client talks to, as attributes worked out once per connection."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from opentelemetry.util.types import AttributeValue

from hopwatch.beside import Beside
from hopwatch.conventions import BROKER, SERVER_ADDRESS, SERVER_PORT
from hopwatch.faults import swallowed

Address = tuple[str | None, int | None]

_NONE: Final[Mapping[str, AttributeValue]] = MappingProxyType({})
_MAX_BROKER_LENGTH: Final = 256


@dataclass(frozen=True, slots=True)
class _Known:
    said: object
    attributes: Mapping[str, AttributeValue]


class Servers:
    """Remembers `server.address`, `server.port` and `hopwatch.broker` for as long as the client's connection lasts.

    `find` returns host and port of a client's connection. `said` returns the server's own words about itself, another
    object for each connection, None while there is none; `name` the broker's identity, once these are there. What
    cannot be told is left out.
    """

    def __init__(
        self,
        find: Callable[[Any], Address],
        said: Callable[[Any], object | None],
        name: Callable[[Any], str | None],
    ) -> None:
        self._find = find
        self._said = said
        self._name = name
        self._known: Beside[_Known] = Beside()

    def of(self, client: Any) -> Mapping[str, AttributeValue]:
        """Return the attributes of a client's server: the same object for as long as the connection is the same.

        Between two connections these are what they were: the client is on its way back to where it was.
        """
        if client is None:
            return _NONE
        said = self._said(client)
        known = self._known.get(client)
        if known is None or (said is not known.said and said is not None):
            known = self._known.put(client, _Known(said, self._attributes(client, said)))
        return known.attributes

    def broker_of(self, client: Any) -> str:
        """Return the identity of a client's broker, empty where it is not known."""
        return str(self.of(client).get(BROKER, ""))

    def _attributes(self, client: Any, said: object | None) -> Mapping[str, AttributeValue]:
        attributes: dict[str, AttributeValue] = {}
        try:
            host, port = self._find(client)
            if host:
                attributes[SERVER_ADDRESS] = host
                if port:
                    attributes[SERVER_PORT] = port
            broker = self._name(client) if said is not None else None
            if broker:
                attributes[BROKER] = broker[:_MAX_BROKER_LENGTH]
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("server", fault)
        return attributes
