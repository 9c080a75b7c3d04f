"""Addresses and names that people type: in parts, or none at all."""

import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

_LOCAL_NAMES: Final = frozenset({"localhost", "ip6-localhost", "localhost.localdomain"})
_CLUSTER: Final = re.compile(r"[A-Za-z0-9_.\-]+")


def server_in(text: str, schemes: Collection[str]) -> SplitResult | None:
    """Return the parts of one server's address, None where it has another scheme, no host, or a port that cannot be."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises where it is no port
    except ValueError:
        return None
    return parts if parts.scheme in schemes and parts.hostname else None


def is_cluster_name(text: str) -> bool:
    """Whether it may be the name of a ClickHouse cluster. It stands in statements, where nothing else may come of it."""
    return _CLUSTER.fullmatch(text) is not None


def names_this_machine(host: str) -> bool:
    """Whether `host` (an address or a name, a Host header's port allowed) can only be this machine."""
    name = _without_port(host.strip().lower())
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name.removesuffix(".") in _LOCAL_NAMES


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]
