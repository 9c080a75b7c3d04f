"""Bounded decompression of request bodies, piece by piece: a gzip bomb costs its compressed size, no more."""

import zlib
from typing import Protocol

from hopwatch_collector.errors import MalformedRequest, RequestTooLarge, UnsupportedRequest

_GZIP_WINDOW = 31
_ZLIB_WINDOW = 15
_MAX_MEMBERS = 1024
"""gzip bodies may be several streams in a row; more than this is an attack on our patience."""


class Decoder(Protocol):
    """Turns the pieces of a body as sent into the pieces of the body as meant."""

    def feed(self, piece: bytes, room: int) -> bytes:
        """Decodes one piece into at most `room` bytes.

        Raises:
            RequestTooLarge: it would be more. MalformedRequest: it is not in this encoding.
        """

    def finish(self) -> None:
        """Raises MalformedRequest where the body ends too early."""


class Identity:
    """No encoding at all."""

    def feed(self, piece: bytes, room: int) -> bytes:
        if len(piece) > room:
            raise RequestTooLarge("the request body is over the limit")
        return piece

    def finish(self) -> None:
        """Any end is a good end."""


class Inflate:
    """gzip (RFC 1952, several members allowed) and deflate (the zlib format, RFC 1950)."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._stream = zlib.decompressobj(window)
        self._members = 1
        self._begun = False

    def feed(self, piece: bytes, room: int) -> bytes:
        out = []
        while piece:
            if self._stream.eof:
                self._next_member()
            self._begun = True
            decoded = self._inflate(piece, room)
            room -= len(decoded)
            out.append(decoded)
            piece = self._stream.unused_data
        return b"".join(out)

    def finish(self) -> None:
        if self._begun and not self._stream.eof:
            raise MalformedRequest("the compressed body is cut short")

    def _inflate(self, piece: bytes, room: int) -> bytes:
        try:
            decoded = self._stream.decompress(piece, room + 1)
        except zlib.error as error:
            raise MalformedRequest(f"the body is not in its content encoding: {error}") from None
        if len(decoded) > room:
            raise RequestTooLarge("the request body is over the limit when decompressed")
        return decoded

    def _next_member(self) -> None:
        self._members += 1
        if self._window != _GZIP_WINDOW or self._members > _MAX_MEMBERS:
            raise MalformedRequest("the compressed body is followed by more than may follow it")
        self._stream = zlib.decompressobj(self._window)
        self._begun = False


def decoder(content_encoding: str) -> Decoder:
    """The decoder for a Content-Encoding header; empty means none.

    Raises:
        UnsupportedRequest: we do not speak it.
    """
    match content_encoding.strip().lower():
        case "" | "identity":
            return Identity()
        case "gzip" | "x-gzip":
            return Inflate(_GZIP_WINDOW)
        case "deflate":
            return Inflate(_ZLIB_WINDOW)
        case other:
            raise UnsupportedRequest(f"content encoding {other!r} is not spoken here; gzip and deflate are")
