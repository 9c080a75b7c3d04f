"""The beginning of a caller's half: the same for blocking and asyncio callers."""

from functools import lru_cache
from typing import Any, NamedTuple

from opentelemetry.util.types import AttributeValue

from hopwatch.calls import Calls
from hopwatch.conventions import SERVER_ADDRESS, SERVER_PORT
from hopwatch.places import Prepared
from hopwatch.transports.grpc.exchange import Exchange, Services, metadata_setter, prepared
from hopwatch.wrapping import Args, Kwargs, argument, stale_fields, with_argument

_METADATA_AT = 2


class Begun(NamedTuple):
    """A call that has begun, and the arguments that carry its ids."""

    exchange: Exchange
    args: Args
    kwargs: Kwargs


class Kinds:
    """Which kinds of callables send a stream, and which get one: asked once of each class."""

    def __init__(self, sending: tuple[type, ...], receiving: tuple[type, ...]) -> None:
        self._sending = sending
        self._receiving = receiving
        self._known: dict[type, tuple[bool, bool]] = {}

    def of(self, kind: type) -> tuple[bool, bool]:
        """Return whether it sends, and whether it gets, a stream."""
        known = self._known.get(kind)
        if known is None:
            known = issubclass(kind, self._sending), issubclass(kind, self._receiving)
            self._known[kind] = known
        return known


def begin(
    calls: Calls, services: Services, method: bytes | str, target: bytes | str, args: Args, kwargs: Kwargs,
    streams: tuple[bool, bool],
) -> Begun | None:  # fmt: skip
    """Begin a call, None if it is not to be recorded."""
    place = _prepared(method, target)
    name = place.span_name
    if not services.wanted(name):
        return None
    given = argument(args, kwargs, _METADATA_AT, "metadata")
    metadata: list[tuple[str, Any]] = []
    if given:
        stale = stale_fields()
        metadata += [(key, value) for key, value in given if key not in stale]
    hop = calls.call(name, {}, metadata, metadata_setter, place=place)
    args, kwargs = with_argument(args, kwargs, _METADATA_AT, "metadata", tuple(metadata))
    return Begun(Exchange(hop, *streams), args, kwargs)


@lru_cache(maxsize=1_024)
def _prepared(method: bytes | str, target: bytes | str) -> Prepared:
    return prepared(method.decode() if isinstance(method, bytes) else method, _address(target))


def _address(target: bytes | str) -> dict[str, AttributeValue]:
    """Return where a channel's target is: `dns:///host:port`, `ipv4:host:port`, `host:port`, `unix:path`."""
    text = target.decode(errors="replace") if isinstance(target, bytes) else target
    if not text:
        return {}
    scheme, separator, rest = text.partition(":///")
    place = rest if separator else text.removeprefix("ipv4:").removeprefix("ipv6:").removeprefix("dns:")
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdigit() or scheme.startswith("unix"):
        return {SERVER_ADDRESS: place}
    return {SERVER_ADDRESS: host.strip("[]"), SERVER_PORT: int(port)}
