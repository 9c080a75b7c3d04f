"""Bearer tokens, and the rule that nothing beyond loopback is served without them."""

import hmac
import ipaddress
import socket

from hopwatch_collector.errors import SettingsError
from hopwatch_collector.settings import Settings

_SCHEME = "bearer"


def authorised(header: str | bytes | None, token: str | None) -> bool:
    """Whether an `Authorization` header shows `token`; always true where none is set.

    Takes the same time whatever the header holds, so that a token cannot be guessed byte by byte.
    """
    if not token:
        return True
    given = header.encode("latin-1", "replace") if isinstance(header, str) else header or b""
    scheme, _, shown = given.partition(b" ")
    matches = hmac.compare_digest(shown.strip(), token.encode())
    return matches and scheme.lower() == _SCHEME.encode()


def is_loopback(host: str) -> bool:
    """Whether every address `host` stands for is reachable from this machine only.

    Raises:
        SettingsError: the name does not resolve.
    """
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SettingsError(
            f"cannot listen on {host!r}: {error}. Give an address of this machine."
        ) from error
    return all(ipaddress.ip_address(str(info[4][0]).partition("%")[0]).is_loopback for info in found)


def require_safe(settings: Settings) -> None:
    """Refuses to serve strangers: beyond loopback both tokens must be set, or insecurity asked for.

    Raises:
        SettingsError: they are not; the text says what to do.
    """
    if settings.allow_insecure or is_loopback(settings.listen):
        return
    tokens = {"--ingest-token": settings.ingest_token, "--read-token": settings.read_token}
    missing = [flag for flag, token in tokens.items() if not token]
    if missing:
        raise SettingsError(
            f"refusing to listen on {settings.listen!r}, which others can reach, without {' and '.join(missing)}. "
            "Set both tokens (or HOPWATCH_INGEST_TOKEN and HOPWATCH_READ_TOKEN), "
            "listen on 127.0.0.1, or say --allow-insecure if something else guards these ports."
        )
