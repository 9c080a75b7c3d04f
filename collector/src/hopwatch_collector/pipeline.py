"""From OTLP's two ports to the engine: receive, journal, pump, started and stopped in the right order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hopwatch_collector.journal import BatchLog, Journal
from hopwatch_collector.listen import GRACE_S, listening, port_of, served
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.pump import Pump, Store
from hopwatch_collector.quarantine import Quarantine
from hopwatch_collector.receive.grpc import bind, create_otlp_server
from hopwatch_collector.receive.http import create_otlp_app
from hopwatch_collector.receive.ingest import Budget, Ingest
from hopwatch_collector.settings import Settings

_DRAIN_S = 8.0
"""Seconds the pump gets to hand the journal's rest to the engine; what remains is replayed at the next start."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A running pipeline, and where senders reach it."""

    grpc_port: int
    http_port: int
    pump: Pump


@asynccontextmanager
async def pipeline(
    settings: Settings, store: Store, metrics: Metrics, sync: Callable[[], None]
) -> AsyncIterator[Pipeline]:
    """Receives spans and gives them to `store`; `sync` makes durable what the store has written.

    At the end, senders are cut off first, then the journal is emptied into the store.

    Raises:
        StartError: a port cannot be had, or the journal's directory is not to be trusted.
    """
    async with AsyncExitStack() as stack:
        log = stack.enter_context(await asyncio.to_thread(_batch_log, settings.journal_dir))
        journal = stack.enter_context(await asyncio.to_thread(_journal, settings, log, metrics))
        quarantine = Quarantine(settings.quarantine_dir)
        pump = Pump(journal, log, store, quarantine, settings, metrics, sync)
        stack.push_async_callback(asyncio.to_thread, pump.stop, _DRAIN_S)
        stack.push_async_callback(
            asyncio.to_thread, journal.close
        )  # no more arrives; the pump takes the rest
        ingest = Ingest(journal, Budget(settings.max_inflight_bytes), metrics)
        listener = stack.enter_context(listening(settings.listen, settings.otlp_http_port, "OTLP/HTTP"))
        server = create_otlp_server(ingest, settings)
        grpc_port = bind(server, settings.listen, settings.otlp_grpc_port)
        await stack.enter_async_context(served(create_otlp_app(ingest, settings), listener, lifespan="off"))
        stack.push_async_callback(server.stop, GRACE_S)
        await server.start()
        pump.start()
        yield Pipeline(grpc_port, port_of(listener), pump)


def _batch_log(directory: Path) -> BatchLog:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return BatchLog(directory / "batches.log")


def _journal(settings: Settings, log: BatchLog, metrics: Metrics) -> Journal:
    return Journal(
        settings.journal_dir,
        log,
        max_bytes=settings.journal_max_bytes,
        segment_bytes=settings.journal_segment_bytes,
        metrics=metrics,
    )
