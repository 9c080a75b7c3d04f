"""What parsing a request would make of it, told before it is parsed.

A message without content is two bytes on the wire and some hundred in memory, in protobuf's parser as in the engine's: 16 MiB of
empty spans become two gigabytes. Real requests have names, ids and times between such bytes.
"""

from typing import Final

from hopwatch_collector.errors import RequestTooLarge

_SMALL: Final = 2048
"""Bytes that are parsed whatever they are."""
_AT_LEAST: Final = 8
"""Bytes that a real request has for each message of at most four bytes; those of instrumented services have 80."""
MOST_SPANS: Final = 100_000
"""Spans that one request may have; exporters send 512, gateways 8,192."""

_TAG, _SHORT, _OTHER = b"t", b"s", b"."
_KINDS: Final = b"".join(
    _SHORT if byte <= 4 else _TAG if byte < 128 and byte & 7 == 2 else _OTHER for byte in range(256)
)
"""What each byte may be: the tag of a field that has a length, a length of at most four bytes, or anything else."""


def require_content(body: bytes) -> None:
    """Raise RequestTooLarge where a serialized request consists of messages that say next to nothing."""
    if len(body) <= _SMALL:
        return
    empty = body.translate(_KINDS).count(_TAG + _SHORT)
    if empty * _AT_LEAST > len(body):
        raise RequestTooLarge(
            f"the request is made of empty messages, {empty} of them in {len(body)} bytes: a span has ids, a name and times, an "
            "attribute a key and a value"
        )


def require_few(spans: int) -> None:
    """Raise RequestTooLarge where one request has more spans than are taken at once."""
    if spans > MOST_SPANS:
        raise RequestTooLarge(
            f"the request has {spans} spans, more than {MOST_SPANS}; send them in several requests"
        )
