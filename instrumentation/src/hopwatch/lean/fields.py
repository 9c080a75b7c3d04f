"""The fields a span is made of, as OTLP bytes; what repeats is kept as bytes. The twin of `native.span`."""

from collections.abc import Callable
from struct import Struct
from typing import Any, Final

from hopwatch.conventions import MESSAGE_ID
from hopwatch.lean.attributes import Store
from hopwatch.lean.wire import attributes, key_value, sized, varints
from hopwatch.native import native

_pack_times: Final = Struct("<BBBQBQ").pack

_INT64_END: Final = 1 << 63
_TEXT: Final = b"\x0a"
_NUMBER: Final = b"\x18"
_VALUES: Final = 128
_KEYS: Final = 256
_CACHED_LENGTH: Final = 128
"""How many values per key, and keys, are kept as bytes, and how long they may be: 5 MB if all were used."""


class _Heads(dict[int, bytes]):
    """What stands before the bytes of a key's value, by how many these are."""

    __slots__ = ("_field", "_kind")

    def __init__(self, key: str, kind: bytes) -> None:
        self._field = sized(0x0A, key.encode())
        self._kind = kind

    def __missing__(self, size: int) -> bytes:
        kind = self._kind if self._kind == _NUMBER else self._kind + varints[size]
        value = len(kind) + size
        head = b"\x12%b%b" % (varints[value], kind)
        whole = len(self._field) + len(head) + size
        field = b"\x4a%b%b%b" % (varints[whole], self._field, head)
        if size <= _CACHED_LENGTH:
            self[size] = field
        return field


_ids_by_size: Final = _Heads(MESSAGE_ID, _TEXT)


class _Known(dict[Any, bytes]):
    """Values of one key as whole fields; full, it starts anew, so that it follows what is in use."""

    __slots__ = ("_key", "_texts")

    def __init__(self, key: str) -> None:
        self._key = key
        self._texts = _Heads(key, _TEXT)

    def __missing__(self, value: Any) -> bytes:
        field = self.field(value)
        if len(field) <= _CACHED_LENGTH:
            if len(self) >= _VALUES:
                self.clear()
            self[value] = field
        return field

    def field(self, value: Any) -> bytes:
        """Return the key with a value."""
        if type(value) is str:
            data = value.encode()
            return self._texts[len(data)] + data
        return key_value(0x4A, self._key, value)


class _Keys(dict[str, _Known]):
    """Keys of one type of value."""

    __slots__ = ()

    def __missing__(self, key: str) -> _Known:
        if len(self) >= _KEYS:
            self.clear()
        known = self[key] = _Known(key)
        return known


class _Numbers(dict[str, _Heads]):
    """What stands before the values of keys that have numbers: these hardly ever repeat, their lengths do."""

    __slots__ = ()

    def __missing__(self, key: str) -> _Heads:
        if len(self) >= _KEYS:
            self.clear()
        heads = self[key] = _Heads(key, _NUMBER)
        return heads


class _Names(dict[str, bytes]):
    """Span names as whole fields."""

    __slots__ = ()

    def __missing__(self, name: str) -> bytes:
        field = sized(0x2A, name.encode(errors="replace"))
        if len(self) >= _KEYS:
            self.clear()
        self[name] = field
        return field


names: Final = _Names()
"""`names[name]`: a span's name as a field."""

_strings: Final = _Keys()
_numbers: Final = _Numbers()
_switches: Final = _Keys()  # apart, because True == 1


def _span(
    trace_id: int,
    span_id: int,
    state: bytes,
    parent_id: int | None,
    name: bytes,
    kind: int,
    start: int,
    end: int,
    shared: bytes,
    own: Store,
    tail: bytes,
) -> bytes:
    parts = [
        b"\x0a\x10",
        trace_id.to_bytes(16, "big"),
        b"\x12\x08",
        span_id.to_bytes(8, "big"),
        state,
        b"" if parent_id is None else b"\x22\x08" + parent_id.to_bytes(8, "big"),
        name,
        _pack_times(0x30, kind, 0x39, start, 0x41, end),
        shared,
    ]
    try:
        _put(own, parts)
    except (ValueError, TypeError, RuntimeError):  # one has no place in OTLP, or the dict has grown meanwhile
        parts[9:] = [attributes(0x4A, list(own.items()))]
    parts.append(tail)
    body = b"".join(parts)
    return b"\x12%b%b" % (varints[len(body)], body)


def _put(own: dict[str, Any], parts: list[bytes]) -> None:
    for key, value in own.items():
        kind = type(value)
        if kind is str:
            if key is MESSAGE_ID:  # on every hop, and never the same
                data = value.encode()
                parts += (_ids_by_size[len(data)], data)
            else:
                parts.append(_strings[key][value])
        elif kind is int and 0 <= value < _INT64_END:
            data = varints[value]
            parts += (_numbers[key][len(data)], data)
        elif kind is bool:
            parts.append(_switches[key][value])
        else:
            parts.append(key_value(0x4A, key, value))


if native is not None:
    native.fall_back_on(_span)  # for values of kinds that are written in Python only

span_field: Final[Callable[..., bytes]] = _span if native is None else native.span
"""A span of a scope, as the field it is there. Takes ids, tracestate as a field, the parent's id, the name as a field, kind,
times (ns since 1970), attributes shared with others as fields, its own, and as fields whatever comes after attributes.

Raises:
    OverflowError, struct.error: a time or id has no place in OTLP.
"""
