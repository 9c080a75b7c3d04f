"""Decompression: whatever the pieces, the same bytes; never more than the limit."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopwatch_collector.errors import MalformedRequest, RequestTooLarge, UnsupportedRequest
from hopwatch_collector.receive.inflate import decoder


def decode(encoding: str, body: bytes, piece: int, limit: int) -> bytes:
    feed = decoder(encoding)
    out = b""
    for start in range(0, len(body), piece):
        out += feed.feed(body[start : start + piece], limit - len(out))
    feed.finish()
    return out


@given(
    body=st.binary(max_size=2000),
    piece=st.integers(1, 500),
    encoding=st.sampled_from(["", "gzip", "deflate"]),
)
def test_any_split_gives_the_body_back(body: bytes, piece: int, encoding: str) -> None:
    """However the network cuts the body, it decodes to the same bytes, up to exactly the limit."""
    sent = {"": lambda b: b, "gzip": gzip.compress, "deflate": zlib.compress}[encoding](body)
    assert decode(encoding, sent, piece, limit=len(body)) == body


@given(body=st.binary(min_size=1, max_size=2000), encoding=st.sampled_from(["identity", "gzip", "deflate"]))
def test_one_byte_over_the_limit_is_too_large(body: bytes, encoding: str) -> None:
    """The limit is exact."""
    sent = {"identity": lambda b: b, "gzip": gzip.compress, "deflate": zlib.compress}[encoding](body)
    with pytest.raises(RequestTooLarge):
        decode(encoding, sent, 100, limit=len(body) - 1)


def test_a_bomb_costs_no_more_memory_than_the_limit() -> None:
    """Two hundred megabytes of zeros are refused at the limit, without being unpacked."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    tracemalloc.start()
    try:
        with pytest.raises(RequestTooLarge):
            decode("gzip", bomb, len(bomb), limit=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_gzip_members_in_a_row_are_one_body() -> None:
    """RFC 1952 allows several members; all count."""
    assert decode("gzip", gzip.compress(b"one") + gzip.compress(b"two"), 7, limit=100) == b"onetwo"


def test_endless_empty_members_are_refused() -> None:
    """Members that hold nothing cannot keep us busy for ever."""
    with pytest.raises(MalformedRequest):
        decode("gzip", gzip.compress(b"") * 5000, 1 << 16, limit=100)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("damage", ["cut", "trailing", "plain"])
def test_bodies_not_in_their_encoding_are_malformed(encoding: str, damage: str) -> None:
    """A stream cut short, followed by rubbish, or not compressed at all is refused."""
    whole = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding](b"hello" * 50)
    body = {"cut": whole[:-3], "trailing": whole + b"rubbish", "plain": b"hello"}[damage]
    with pytest.raises(MalformedRequest):
        decode(encoding, body, 64, limit=1000)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "snappy"])
def test_other_encodings_are_unsupported(encoding: str) -> None:
    """What we do not speak is refused before a byte of it is read."""
    with pytest.raises(UnsupportedRequest):
        decoder(encoding)
