"""One party of a hop, instrumented by hopwatch or by OpenTelemetry's contrib instrumentations, told what to do on stdin.

    party.py (hopwatch|contrib) SERVICE

Orders are JSON lines, answered by JSON lines: {"do": "send"|"receive"|"take"|"export", …}. Spans are exported when the
order comes and not before, so that a test decides whose arrive first.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import wires
from opentelemetry import trace

from hopwatch_demo.patience import scale_wait

Order = dict[str, Any]
NEVER_MS = 3_600_000


def instrument_by_hopwatch(service: str) -> None:
    """The one line of a hopwatch user."""
    import hopwatch

    hopwatch.instrument(service=service)


def instrument_by_contrib(service: str) -> None:
    """What a user of OpenTelemetry alone writes."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor
    from opentelemetry.instrumentation.aiokafka import AIOKafkaInstrumentor
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    for instrumentor in (
        AIOKafkaInstrumentor,
        AioPikaInstrumentor,
        HTTPXClientInstrumentor,
        FastAPIInstrumentor,
    ):
        instrumentor().instrument()


class Party:
    """Carries out orders; whatever is opened for one is closed with the party."""

    def __init__(self, foreign: bool, stack: AsyncExitStack) -> None:
        self._foreign = foreign
        self._stack = stack
        self._arrivals: asyncio.Queue[Order] = asyncio.Queue()

    async def obey(self, order: Order) -> Order:
        """Return the answer to an order."""
        orders: dict[str, Callable[[Order], Awaitable[Order]]] = {
            "send": self._send,
            "receive": self._receive,
            "take": self._take,
            "export": self._export,
        }
        return await orders[order.pop("do")](order)

    async def _send(self, order: Order) -> Order:
        wire = wires.opened(order.pop("over"), self._foreign)
        return {"sent": await wire.send(**order)}

    async def _receive(self, order: Order) -> Order:
        wire = wires.opened(order.pop("over"), self._foreign)
        ready = await self._stack.enter_async_context(wire.receiving(self._arrivals.put_nowait, **order))
        return {"ready": ready}

    async def _take(self, order: Order) -> Order:
        """Return what the oldest arrival said."""
        async with asyncio.timeout(scale_wait(20)):
            return {"took": await self._arrivals.get()}

    async def _export(self, order: Order) -> Order:
        provider: Any = trace.get_tracer_provider()
        flushed = await asyncio.to_thread(provider.force_flush)
        return {"exported": flushed, "hopwatch": "hopwatch" in sys.modules}


async def main(service: str, foreign: bool) -> None:
    """Obey until stdin is closed."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        party = Party(foreign, stack)
        print(json.dumps({"party": service}))
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(await party.obey(json.loads(line))))


if __name__ == "__main__":
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = str(NEVER_MS)
    by, name = sys.argv[1:]
    (instrument_by_hopwatch if by == "hopwatch" else instrument_by_contrib)(name)
    asyncio.run(main(name, foreign=by != "hopwatch"))
