"""How services are told what to do: JSON lines on stdin, answered on stdout."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping

from opentelemetry import trace

import hopwatch
from hopwatch_demo.patience import scale_wait

Order = Callable[..., Awaitable[dict[str, object]]]
"""What is done, given what else the line says; an answer that has `left` in it is the last."""


async def obey(orders: Mapping[str, Order]) -> None:
    """Say that all is ready and carry out orders until one of them is to leave.

    Where stdin ends before that, the process leaves at once: what is held stays unsettled.
    """
    known = {"export": _export, **orders}
    print(json.dumps({"ready": True}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        answer = await known[order.pop("do")](**order)
        print(json.dumps(answer), flush=True)
        if "left" in answer:
            return
    os._exit(0)


async def _export() -> dict[str, object]:
    """Send all spans there are, and tell what became of those so far."""
    provider = trace.get_tracer_provider()
    flushed = await asyncio.to_thread(provider.force_flush, int(scale_wait(60_000)))  # type: ignore[attr-defined]
    stats = hopwatch.stats()
    assert stats is not None
    return {"flushed": flushed, "dropped": stats.dropped, "delivered": stats.delivered}
