"""One kept-alive HTTP connection to the collector, and what its answers mean."""

import gzip
import random
import ssl
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

from hopwatch.lean.proxy import proxy_for
from hopwatch.lean.settings import ExportSettings

_RETRYABLE: Final = frozenset({429, 502, 503, 504})
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_ANSWER_BYTES: Final = 64 << 10
_GZIP_LEVEL: Final = 3


@dataclass(frozen=True, slots=True)
class Delivered:
    """The collector has it; some spans it may have rejected."""

    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Later:
    """Not now: the reason, and how long the collector asks to be left alone."""

    reason: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """Not ever: the same request would be refused again."""

    reason: str


Answer = Delivered | Later | Refused


class Sender:
    """Posts encoded requests; belongs to one thread."""

    def __init__(self, settings: ExportSettings) -> None:
        self._settings = settings
        self._connection: HTTPConnection | None = None
        self._target = ""
        self._headers = {
            "content-type": "application/x-protobuf",
            "user-agent": f"OTel-OTLP-Exporter-hopwatch/{version('hopwatch')}",
            **({"content-encoding": settings.compression} if settings.compression != "none" else {}),
            **settings.headers,
        }

    def send(self, body: bytes, timeout_s: float) -> Answer:
        """Post one request; a connection that the other side has given up meanwhile is made anew, once."""
        packed = _packed(body, self._settings.compression)
        kept_alive = self._connection is not None
        try:
            try:
                return self._post(packed, timeout_s)
            except (ConnectionError, HTTPException):
                if not kept_alive:
                    raise
                self.close()
                return self._post(packed, timeout_s)
        except (OSError, HTTPException) as error:
            self.close()
            return Later(f"{type(error).__name__}: {error}")
        except ValueError as error:  # an address or header that can be none
            self.close()
            return Refused(f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Let go of the connection; the next `send` makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError):
                connection.close()

    def _post(self, body: bytes, timeout_s: float) -> Answer:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connect(timeout_s)
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        connection.request("POST", self._target, body, self._headers)
        response = connection.getresponse()
        said = response.read(_ANSWER_BYTES)
        if not response.isclosed():  # more than any collector has to say
            self.close()
        return _meaning(response, said)

    def _connect(self, timeout_s: float) -> HTTPConnection:
        url = urlsplit(self._settings.url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"{self._settings.url!r} is no http address")
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        port = url.port or (443 if url.scheme == "https" else 80)
        proxy = proxy_for(url.scheme, url.hostname)
        if url.scheme == "https":
            address = (proxy.host, proxy.port) if proxy else (url.hostname, port)
            secured = HTTPSConnection(*address, timeout=timeout_s, context=self._trust())
            if proxy:
                secured.set_tunnel(url.hostname, port, proxy.headers)
            return secured
        if proxy:
            self._target = f"http://{url.netloc}{self._target}"
            self._headers = self._headers | proxy.headers
            return HTTPConnection(proxy.host, proxy.port, timeout=timeout_s)
        return HTTPConnection(url.hostname, port, timeout=timeout_s)

    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._settings.certificate)
        if self._settings.client_certificate:
            context.load_cert_chain(self._settings.client_certificate, self._settings.client_key)
        return context


def pause(attempt: int, after_s: float) -> float:
    """Return how long to wait before trying again: exponential with full jitter, never less than was asked for."""
    longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(attempt, 16))
    return min(after_s, 2 * _LONGEST_PAUSE_S) + random.uniform(0.0, longest)


def _packed(body: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.compress(body, _GZIP_LEVEL)
    return zlib.compress(body, _GZIP_LEVEL) if compression == "deflate" else body


def _meaning(response: HTTPResponse, said: bytes) -> Answer:
    if 200 <= response.status < 300:
        return Delivered(_rejected(said))
    reason = f"HTTP {response.status}"
    if response.status in _RETRYABLE:
        return Later(reason, _asked_pause(response.getheader("retry-after", "")))
    return Refused(reason)


def _asked_pause(said: str) -> float:
    """Return the seconds a `Retry-After` asks for, given in seconds or as a date."""
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _rejected(said: bytes) -> int:
    """Return `partial_success.rejected_spans` of an `ExportTraceServiceResponse`; what is none rejects nothing."""
    if len(said) < 4 or said[0] != 0x0A or said[2] != 0x08:
        return 0
    count = 0
    for place, byte in enumerate(said[3:13]):
        count |= (byte & 127) << (7 * place)
        if byte < 128:
            return count
    return 0
