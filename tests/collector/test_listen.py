"""Connections to the collector's HTTP servers."""

import asyncio
import resource
from typing import Any

import httpx
import pytest

from hopwatch_collector.connections import Connections, most_connections
from hopwatch_collector.listen import listening, port_of, served
from hopwatch_demo.patience import scale_wait


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answer whatever is asked."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def test_an_idle_connection_is_the_client_s_to_close() -> None:
    """For as long as clients keep one, by their own default, it is kept here: closed by us, it could meet a request."""
    clients_keep = httpx.Limits().keepalive_expiry
    assert clients_keep is not None
    with listening("127.0.0.1", 0, "a test") as listener:
        async with served(hello, listener, lifespan="off"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(listener))
            writer.write(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
            assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(clients_keep + 0.5):
                    await reader.read(1)
            writer.close()
            await writer.wait_closed()


async def ends(reader: asyncio.StreamReader, within_s: float) -> bool:
    """Whether the other side closes a connection without an answer."""
    try:
        async with asyncio.timeout(within_s):
            return await reader.read(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("said", [b"", b"POST /v1/tra", b"GET / HTTP/1.1\r\nhost: te"])
async def test_a_head_that_does_not_come_ends_the_connection(said: bytes) -> None:
    """Half-open, or a few bytes of a head and no more: the connection is let go of; one that asked is not."""
    with listening("127.0.0.1", 0, "a test") as listener:
        async with served(hello, listener, lifespan="off", connections=Connections(100, head_s=0.5)):
            port = port_of(listener)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            assert await ends(reader, scale_wait(10))
            kept, asking = await asyncio.open_connection("127.0.0.1", port)
            asking.write(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
            await kept.readuntil(b"hi")
            assert not await ends(kept, 1.0)
            asking.write(b"GET / HT")
            assert await ends(kept, scale_wait(10))
            for one in (writer, asking):
                one.close()


async def test_a_head_in_small_pieces_has_its_time_from_the_first() -> None:
    """A byte now and then does not prolong it."""
    with listening("127.0.0.1", 0, "a test") as listener:
        async with served(hello, listener, lifespan="off", connections=Connections(100, head_s=0.5)):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(listener))
            ended = asyncio.create_task(ends(reader, scale_wait(10)))
            for byte in b"GET / HTTP/1.1\r\nhost: test-of-a-slow-one":
                if ended.done():
                    break
                writer.write(bytes([byte]))
                await asyncio.wait([ended], timeout=0.1)
            assert await ended
            writer.close()


async def test_one_peer_leaves_room_for_others() -> None:
    """A peer may hold three quarters of the connections; what it opens beyond is closed, others are answered."""
    with listening("127.0.0.1", 0, "a test") as listener:
        async with served(hello, listener, lifespan="off", connections=Connections(8)):
            port = port_of(listener)
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
            beyond, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await ends(beyond, scale_wait(10))
            other, asking = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
            asking.write(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
            await other.readuntil(b"hi")
            held[0][1].close()
            await held[0][1].wait_closed()
            for one in (writer, asking, *(writer for _, writer in held)):
                one.close()


def test_connections_leave_room_for_files() -> None:
    """Both servers together hold fewer connections than the process may have files open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 2 * most_connections() < soft
