"""The form of one journal record, and how records are found again in bytes that may be torn or flipped.

A record is a header (magic, payload length, span count, checksum; 16 bytes, little-endian) and its payload.
The checksum is seeded with the journal's secret salt and the record's own position. So a record is valid
in its one place only, and bytes that a sender made to look like a record inside its payload never are.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NewType

MAGIC = b"HOPj"
_HEADER = struct.Struct("<4sIII")
_SEED = struct.Struct("<QQII")
HEADER_BYTES = _HEADER.size

Salt = NewType("Salt", int)
"""64 random bits, drawn once per journal."""


@dataclass(frozen=True, slots=True)
class Record:
    """One acknowledged request: where it lies (absolute positions, header included), and its bytes."""

    start: int
    end: int
    spans: int
    payload: memoryview


def header(payload: bytes, spans: int, position: int, salt: Salt) -> bytes:
    """The header that makes `payload` a record at absolute `position`."""
    return _HEADER.pack(MAGIC, len(payload), spans, _checksum(payload, spans, position, salt))


def scan(data: memoryview, base: int, salt: Salt) -> Iterator[Record | range]:
    """Walks bytes that begin at absolute position `base`: records, and ranges of bytes that are none.

    A damaged record costs itself only: the walk takes up again at the next valid one. Where the data ends
    in the middle of a record, or in rubbish, the last item is a range.
    """
    offset = 0
    while offset < len(data):
        record = _record_at(data, offset, base, salt)
        if record is None:
            resumed = _next_record(data, offset + 1, base, salt)
            yield range(base + offset, base + resumed)
            offset = resumed
        else:
            yield record
            offset = record.end - base


def _record_at(data: memoryview, offset: int, base: int, salt: Salt) -> Record | None:
    begin = offset + HEADER_BYTES
    if begin > len(data):
        return None
    magic, length, spans, checksum = _HEADER.unpack_from(data, offset)
    if magic != MAGIC or begin + length > len(data):
        return None
    payload = data[begin : begin + length]
    if _checksum(payload, spans, base + offset, salt) != checksum:
        return None
    return Record(base + offset, base + begin + length, spans, payload)


def _next_record(data: memoryview, offset: int, base: int, salt: Salt) -> int:
    """Offset of the next valid record at or after `offset`, or the end of the data."""
    rest = bytes(data[offset:])  # only where something is damaged; at most one segment
    found = rest.find(MAGIC)
    while found >= 0:
        if _record_at(data, offset + found, base, salt) is not None:
            return offset + found
        found = rest.find(MAGIC, found + 1)
    return len(data)


def _checksum(payload: bytes | memoryview, spans: int, position: int, salt: Salt) -> int:
    return zlib.crc32(payload, zlib.crc32(_SEED.pack(salt, position, len(payload), spans)))
