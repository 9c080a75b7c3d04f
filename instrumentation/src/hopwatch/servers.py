"""Which server a client talks to, as attributes worked out once per connection."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from opentelemetry.util.types import AttributeValue

from hopwatch.beside import Beside
from hopwatch.conventions import SERVER_ADDRESS, SERVER_PORT
from hopwatch.faults import swallowed

Address = tuple[str | None, int | None]

_NONE: Final[Mapping[str, AttributeValue]] = MappingProxyType({})


class Servers:
    """Remembers `server.address` and `server.port` for as long as their connection object lives.

    `find` takes a client and returns host and port of its connection; what it cannot tell is left out.
    """

    def __init__(self, find: Callable[[Any], Address]) -> None:
        self._find = find
        self._known: Beside[Mapping[str, AttributeValue]] = Beside()

    def of(self, connection: Any, client: Any = None) -> Mapping[str, AttributeValue]:
        """Return the attributes of a connection's server; `client` is whose it is, if not its own."""
        if connection is None:
            return _NONE
        known = self._known.get(connection)
        return self._known.put(connection, self._attributes(client or connection)) if known is None else known

    def _attributes(self, client: Any) -> Mapping[str, AttributeValue]:
        try:
            host, port = self._find(client)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("server", fault)
            return {}
        address: dict[str, AttributeValue] = {SERVER_ADDRESS: host} if host else {}
        return {**address, SERVER_PORT: port} if host and port else address
