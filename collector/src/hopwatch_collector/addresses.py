"""Addresses that people type: in parts, or none at all."""

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit


def server_in(text: str, schemes: Collection[str]) -> SplitResult | None:
    """Return the parts of one server's address, None where it has another scheme, no host, or a port that cannot be."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises where it is no port
    except ValueError:
        return None
    return parts if parts.scheme in schemes and parts.hostname else None
