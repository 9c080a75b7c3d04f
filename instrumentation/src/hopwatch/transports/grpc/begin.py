"""The beginning of a caller's half: the same for blocking and asyncio callers."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from opentelemetry.util.types import AttributeValue

from hopwatch.calls import Calls
from hopwatch.conventions import SERVER_ADDRESS, SERVER_PORT
from hopwatch.transports.grpc.exchange import Exchange, Services, described, metadata_setter
from hopwatch.wrapping import Args, Kwargs, argument, guarded, stale_fields, with_argument

_METADATA_AT = 2


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that has begun, and the arguments that carry its ids."""

    exchange: Exchange
    args: Args
    kwargs: Kwargs


@guarded
def begin(
    calls: Calls, services: Services, method: bytes | str, target: bytes | str, args: Args, kwargs: Kwargs, *,
    sends: bool, receives: bool,
) -> Begun | None:  # fmt: skip
    """Begin a call, None if it is not to be recorded."""
    name, attributes = _prepared(method, target)
    if not services.wanted(name):
        return None
    given = argument(args, kwargs, _METADATA_AT, "metadata")
    stale = stale_fields() if given else ()
    metadata: list[tuple[str, Any]] = [(name, value) for name, value in given or () if name not in stale]
    hop = calls.call(name, attributes.copy(), metadata, metadata_setter)
    args, kwargs = with_argument(args, kwargs, _METADATA_AT, "metadata", tuple(metadata))
    return Begun(Exchange(hop, sends=sends, receives=receives), args, kwargs)


@lru_cache(maxsize=1_024)
def _prepared(method: bytes | str, target: bytes | str) -> tuple[str, dict[str, AttributeValue]]:
    name, attributes = described(method.decode() if isinstance(method, bytes) else method)
    return name, attributes | _address(target)


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
