"""A running broker's version, asked on its client port, before any login."""

import json
import re
import socket
import ssl
import struct
from urllib.parse import SplitResult, urlsplit

from hopwatch_demo.patience import scale_wait

TIMEOUT_S = 5.0
_AMQP_VERSION = re.compile(rb"\x07versionS(....)", re.DOTALL)
_KAFKA_RELEASES = (  # the highest metadata.version level each release line knows
    (7, "3.3"),
    (8, "3.4"),
    (11, "3.5"),
    (14, "3.6"),
    (19, "3.7"),
    (20, "3.8"),
    (21, "3.9"),
    (25, "4.0"),
    (27, "4.1"),
)


def nats_version(url: str) -> str:
    """From the INFO line every NATS server opens with. Raises OSError if nothing answers so."""
    at = urlsplit(url if "://" in url else f"nats://{url}")
    with socket.create_connection(
        (at.hostname or "127.0.0.1", at.port or 4222), scale_wait(TIMEOUT_S)
    ) as connection:
        line = connection.makefile("rb").readline(65536)
    if not line.startswith(b"INFO "):
        raise OSError("what answers there does not speak NATS")
    return str(json.loads(line[5:]).get("version", ""))


def rabbitmq_version(url: str) -> str:
    """From the server properties of AMQP's Connection.Start. Raises OSError if nothing answers so."""
    at = urlsplit(url)
    with _amqp_socket(at) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        frame = connection.makefile("rb")
        kind, _channel, size = struct.unpack(">BHI", _exactly(frame.read(7), 7))
        if kind != 1 or size > 1 << 20:
            raise OSError("what answers there does not speak AMQP 0-9-1")
        start = _exactly(frame.read(size), size)
    found = _AMQP_VERSION.search(start)
    if found is None:
        return ""
    length = int.from_bytes(found[1], "big")
    return start[found.end() : found.end() + length].decode(errors="replace")


def _amqp_socket(at: SplitResult) -> socket.socket:
    secure = at.scheme == "amqps"
    host = at.hostname or "127.0.0.1"
    plain = socket.create_connection((host, at.port or (5671 if secure else 5672)), scale_wait(TIMEOUT_S))
    if not secure:
        return plain
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def kafka_version(bootstrap: str) -> str:
    """The release line, from the highest `metadata.version` the broker supports (Kafka tells no more by protocol).

    Empty when it announces none (ZooKeeper days, other implementations). Raises OSError if nothing answers.
    """
    host, _, port = bootstrap.split(",")[0].strip().rpartition(":")
    request = struct.pack(">hhih", 18, 3, 1, -1) + b"\x00" + b"\x09hopwatch\x020\x00"  # ApiVersions v3
    with socket.create_connection((host.strip("[]"), int(port)), scale_wait(TIMEOUT_S)) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.makefile("rb")
        (size,) = struct.unpack(">i", _exactly(answer.read(4), 4))
        if not 8 <= size <= 1 << 20:
            raise OSError("what answers there does not speak Kafka's protocol")
        body = _exactly(answer.read(size), size)
    return _release(_metadata_version(body))


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise OSError("the connection was closed before an answer")
    return data


def _metadata_version(body: bytes) -> int | None:
    """The level in the supported features: a compact string, then two 16-bit numbers: lowest, highest."""
    name = b"\x11metadata.version"
    at = body.find(name)
    if at < 0 or len(body) < at + len(name) + 4:
        return None
    lowest, highest = struct.unpack_from(">hh", body, at + len(name))
    return int(max(lowest, highest))


def _release(level: int | None) -> str:
    if level is None:
        return ""
    return next((release for top, release in _KAFKA_RELEASES if level <= top), "newer than 4.1")
