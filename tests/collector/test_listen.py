"""Connections to the collector's HTTP servers."""

import asyncio
from typing import Any

import httpx
import pytest

from hopwatch_collector.listen import listening, port_of, served


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
