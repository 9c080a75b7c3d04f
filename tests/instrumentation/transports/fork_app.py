"""A pre-fork service: instrumented, at work on a message when it forks; parent and child then use the broker.

Prints each process's ended spans as a line of JSON. Run as: fork_app.py <adapter> <url> <name>.
"""

import asyncio
import gc
import json
import os
import sys
from typing import Any

import transport_adapters
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hopwatch.handover import handovers
from hopwatch.propagation import HopwatchPropagator
from hopwatch_demo.patience import scale_wait

memory = InMemorySpanExporter()


async def work(adapter: type[transport_adapters.Adapter], url: str, name: str) -> None:
    """Send three messages and handle them; the last takes long enough to be reported while open."""
    broker = adapter(url, name)
    await broker.open()
    await broker.receivers(name, "a")
    async with broker.pull(name, "a", 3) as messages:
        for number in range(3):
            await broker.send(name, str(number).encode())
        left = 3
        async for pulled in messages:
            left -= 1
            if not left:
                await until_reported()
            await pulled.settle()
    await broker.close()


async def until_reported() -> None:
    """Wait until the reporter's thread, which this process must have of its own, has reported the open hop."""
    async with asyncio.timeout(scale_wait(20)):
        while not [
            span
            for span in memory.get_finished_spans()
            if "hopwatch.report" in (span.attributes or {}) and span.name.startswith("open")
        ]:
            await asyncio.sleep(0.01)


def say() -> None:
    """Write this process's ended spans to standard output."""
    sys.stdout.write(json.dumps([told(span) for span in memory.get_finished_spans()]) + "\n")
    sys.stdout.flush()


def told(span: ReadableSpan) -> dict[str, Any]:
    """Return what matters of a span."""
    parent = f"{span.parent.span_id:016x}" if span.parent else None
    return {
        "span": f"{span.context.span_id:016x}",
        "parent": parent,
        "kind": span.kind.name,
        **dict(span.attributes or {}),
    }


async def main(adapter: str, url: str, name: str) -> None:
    """Hold a message in hand, fork, and go on in both."""
    broker_type: type[transport_adapters.Adapter] = getattr(transport_adapters, adapter)
    broker_type.instrumentor().instrument(skip_dep_check=True)
    broker = broker_type(url, name)
    await broker.open()
    await broker.receivers(name, "a")
    async with broker.pull(name, "a", 1) as messages:
        await broker.send(name, b"in hand")
        async for pulled in messages:
            child = os.fork()
            if child == 0:
                in_child(broker_type, url, name)
            await asyncio.to_thread(os.waitpid, child, 0)
            await pulled.settle()
    await broker.close()
    await work(broker_type, url, f"{name}p")
    say()


def in_child(adapter: type[transport_adapters.Adapter], url: str, name: str) -> None:
    """Do the same work in a loop of the child's own, and leave without the parent's clean-up."""
    memory.clear()
    assert handovers.in_hand() == []
    asyncio.events._set_running_loop(None)
    asyncio.set_event_loop(None)
    code = 1
    try:
        asyncio.run(work(adapter, url, f"{name}c"))
        gc.collect()
        say()
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    propagate.set_global_textmap(HopwatchPropagator(propagate.get_global_textmap()))
    asyncio.run(main(*sys.argv[1:]))
