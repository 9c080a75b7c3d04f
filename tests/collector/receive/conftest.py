"""Helpers that talk to a running pipeline over real sockets."""

import time
from collections.abc import Callable

import httpx
import pytest

from hopwatch_collector.pipeline import Pipeline
from hopwatch_demo.patience import scale_wait

PROTOBUF = {"content-type": "application/x-protobuf"}
Post = Callable[..., "httpx._client.Response"]


@pytest.fixture
def post() -> Callable[..., object]:
    """Posts a body to /v1/traces: `await post(pipe, body, {"content-encoding": "gzip"})`."""

    async def send(
        pipe: Pipeline,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        path: str = "/v1/traces",
        method: str = "POST",
    ) -> httpx.Response:
        async with httpx.AsyncClient(timeout=scale_wait(30)) as client:
            url = f"http://127.0.0.1:{pipe.http_port}{path}"
            return await client.request(method, url, content=body, headers={**PROTOBUF, **(headers or {})})

    return send


@pytest.fixture
def drained() -> Callable[[Pipeline], None]:
    """Waits until everything acknowledged is in the store."""

    def wait(pipe: Pipeline) -> None:
        deadline = time.monotonic() + scale_wait(20)
        while pipe.pump.backlog_bytes:
            assert time.monotonic() < deadline, "the pump did not drain the journal"
            time.sleep(0.005)

    return wait
