"""Requests that protobuf takes and a strict engine does not: their spans are kept, and nobody else's are held up."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable

import httpx

from hopwatch_demo.patience import scale_wait

COUNT = """
import json, sys, clickhouse_connect
with clickhouse_connect.get_client(dsn=f"chdb:///{sys.argv[1]}", database="hopwatch") as client:
    print(json.dumps(dict(client.query("SELECT name, count() FROM spans GROUP BY name").result_rows)))
"""
VARINT, FIXED64, BYTES, GROUP, END_GROUP = 0, 1, 2, 3, 4
NAME, KIND, START, ATTRIBUTES, EVENTS, LINKS, STATUS = 5, 6, 7, 9, 11, 13, 15
MINUS_ONE = (1 << 64) - 1


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def tag(field: int, wire_type: int) -> bytes:
    return varint(field << 3 | wire_type)


def block(field: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return tag(field, BYTES) + varint(len(content)) + content


def attribute(value: bytes) -> bytes:
    return block(ATTRIBUTES, block(1, b"key") + block(2, value))


def nested(levels: int) -> bytes:
    value = block(1, b"deep")
    for _ in range(levels):
        value = block(5, block(1, value))
    return value


def request(name: str, extra: bytes = b"") -> bytes:
    """One span with proper ids and a name, and then whatever `extra` says, on the wire."""
    span = block(1, os.urandom(16)) + block(2, os.urandom(8)) + block(NAME, name.encode()) + extra
    return block(1, block(2, block(2, span)))


HOSTILE = {
    "name of another wire type": tag(NAME, VARINT) + varint(7),
    "attributes of another wire type": tag(ATTRIBUTES, VARINT) + varint(7),
    "start of another wire type": tag(START, VARINT) + varint(7),
    "unknown group": tag(50, GROUP) + tag(1, VARINT) + varint(9) + tag(50, END_GROUP),
    "negative kind": tag(KIND, VARINT) + varint(MINUS_ONE),
    "huge kind": tag(KIND, VARINT) + varint(1 << 40),
    "negative status": block(STATUS, tag(3, VARINT) + varint(MINUS_ONE)),
    "two values in one": attribute(block(1, b"text") + tag(3, VARINT) + varint(5)),
    "no value": attribute(b""),
    "a boolean of 77": attribute(tag(2, VARINT) + varint(77)),
    "nested deeply": attribute(nested(20)),
    "not a number": attribute(tag(4, FIXED64) + b"\xff" * 8),
    "link ids of no length": block(LINKS, block(1, b"abc") + block(2, b"x" * 40)),
    "times at the end of time": tag(START, FIXED64)
    + b"\xff" * 8
    + block(EVENTS, tag(1, FIXED64) + b"\xff" * 8),
    "a very long attribute": attribute(block(1, b"x" * 2_000_000)),
    "a flow id that is none": block(
        ATTRIBUTES, block(1, b"hopwatch.flow.id") + block(2, block(1, "é".encode() * 16))
    ),
}


def send(url: str, bodies: Iterable[bytes]) -> None:
    with httpx.Client(timeout=scale_wait(30), trust_env=False) as client:
        for body in bodies:
            answer = client.post(
                f"{url}/v1/traces", content=body, headers={"content-type": "application/x-protobuf"}
            )
            assert (answer.status_code, answer.content) == (200, b"")


def test_hostile_spans_are_kept_and_hold_nobody_up(start_collector) -> None:
    """Every acknowledged span, however odd, is stored once; none ends in the quarantine, nor do those beside it."""
    collector = start_collector()
    bodies = [request(name, extra) for name, extra in HOSTILE.items()]
    send(collector.otlp_http, [*bodies, *(request("plain") for _ in range(50))])
    assert collector.stop() == 0
    command = [sys.executable, "-c", COUNT, str(collector.data / "engine")]
    counted = subprocess.run(command, capture_output=True, text=True, check=True, timeout=scale_wait(120))
    assert json.loads(counted.stdout) == {**dict.fromkeys(HOSTILE, 1), "plain": 50}
    assert not (collector.data / "quarantine").exists()
