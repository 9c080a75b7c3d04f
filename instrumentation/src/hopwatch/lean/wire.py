"""OTLP's protobuf by hand: just enough to write what spans are made of, and to read how many were rejected."""

from collections.abc import Iterable, Mapping, Sequence
from struct import pack
from typing import Any, Final

from opentelemetry.util.types import AnyValue

_INT64_END: Final = 1 << 63


class _Low(dict[int, bytes]):
    """The lower 14 bits of an integer that goes on, as the two bytes that begin it."""

    __slots__ = ()

    def __missing__(self, bits: int) -> bytes:
        encoded = self[bits] = bytes((bits & 127 | 128, bits >> 7 | 128))
        return encoded


_low: Final = _Low()


class _Varints(dict[int, bytes]):
    """Unsigned integers in protobuf's variable length; the short ones are kept."""

    __slots__ = ()

    def __missing__(self, value: int) -> bytes:
        if value >= 1 << 14:
            return _low[value & 0x3FFF] + self[value >> 14]
        encoded = self[value] = bytes((value,)) if value < 128 else bytes((value & 127 | 128, value >> 7))
        return encoded


varints: Final = _Varints()
"""`varints[n]`: n in protobuf's variable length."""


def sized(tag: int, payload: bytes) -> bytes:
    """Return a length-delimited field; `tag` is the field's number and wire type in one byte."""
    return b"%c%b%b" % (tag, varints[len(payload)], payload)


def text(tag: int, value: str | None) -> bytes:
    """Return a string field, nothing where there is nothing to say."""
    return sized(tag, value.encode()) if value else b""


def number(tag: int, value: int) -> bytes:
    """Return an unsigned integer field, nothing for 0."""
    return b"%c%b" % (tag, varints[value]) if value else b""


def any_value(value: AnyValue) -> bytes:
    """Return an `AnyValue`.

    Raises:
        UnicodeEncodeError, ValueError, TypeError: the value has no place in OTLP.
    """
    if value is None:
        return b""
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, str):
        return sized(0x0A, value.encode())
    if isinstance(value, int):
        if not -_INT64_END <= value < _INT64_END:
            raise ValueError(f"{value} does not fit into 64 bits")
        return b"\x18" + varints[value & 0xFFFF_FFFF_FFFF_FFFF]
    if isinstance(value, float):
        return b"\x21" + pack("<d", value)
    if isinstance(value, bytes):
        return sized(0x3A, value)
    if isinstance(value, Sequence):
        return sized(0x2A, b"".join(sized(0x0A, any_value(one)) for one in value))
    if isinstance(value, Mapping):
        return sized(0x32, b"".join(key_value(0x0A, str(key), one) for key, one in value.items()))
    raise TypeError(f"{type(value)} has no place in OTLP")


def key_value(tag: int, key: str, value: AnyValue) -> bytes:
    """Return a `KeyValue` field."""
    return sized(tag, sized(0x0A, key.encode()) + sized(0x12, any_value(value)))


def attributes(tag: int, pairs: Iterable[tuple[str, Any]]) -> bytes:
    """Return repeated `KeyValue` fields; what has no place in OTLP is left out, as the SDK does."""
    out = []
    for key, value in pairs:
        try:
            out.append(key_value(tag, key, value))
        except (ValueError, TypeError):
            continue
    return b"".join(out)
