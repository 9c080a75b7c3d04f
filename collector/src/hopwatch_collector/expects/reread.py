"""Files read again while the collector runs: what they say now holds from now on, or what they said before still does."""

import asyncio

import structlog

from hopwatch_collector.expects.declared import Files, Writes, declare, load
from hopwatch_collector.metrics import Metrics

_log = structlog.get_logger("hopwatch.expects")


async def reread(files: Files, store: Writes, metrics: Metrics, asked: asyncio.Event) -> None:
    """Read all files again whenever asked, until cancelled. Success and failure are told in the log and in the metrics."""
    while True:
        await asked.wait()
        asked.clear()
        try:
            await asyncio.to_thread(_declare_anew, files, store)
        except Exception as error:  # noqa: BLE001 - whatever is in a file, it must not end what rereads the next
            metrics.declarations_current.set(0)
            _log.error("not reread; what was declared before holds", error=str(error) or repr(error))
        else:
            metrics.declarations_current.set(1)
            _log.info("reread")


def _declare_anew(files: Files, store: Writes) -> None:
    declare(store, load(files))
