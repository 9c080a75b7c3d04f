"""A journal on disk that tests can open, fill, close and damage."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from hopwatch_collector.journal import BatchLog, Journal
from hopwatch_collector.metrics import Metrics

OpenJournal = Callable[..., AbstractContextManager["OpenedJournal"]]


class OpenedJournal:
    """A journal with its batch log, and shorthands for what tests do with it."""

    def __init__(self, journal: Journal, log: BatchLog, metrics: Metrics) -> None:
        self.journal = journal
        self.log = log
        self.metrics = metrics

    def append(self, *payloads: bytes) -> None:
        """Appends requests side by side and returns when all are acknowledged."""

        async def run() -> None:
            await asyncio.gather(*(self.journal.append(payload, 1) for payload in payloads))

        asyncio.run(run())

    def everything(self, start: int | None = None) -> list[bytes]:
        """Every request from the checkpoint (or `start`) on, one by one."""
        position = self.log.checkpointed if start is None else start
        found = []
        while (chunk := self.journal.read(position, max_spans=1)) is not None:
            if chunk.records:
                found.append(chunk.payload)
            position = chunk.stretch.end
        return found


@pytest.fixture
def open_journal() -> OpenJournal:
    """`with open_journal(directory, segment_bytes=…) as opened: …`; leaving it is an orderly close."""

    @contextmanager
    def open_(
        directory: Path, *, max_bytes: int = 1 << 30, segment_bytes: int = 1 << 20
    ) -> Iterator[OpenedJournal]:
        metrics = Metrics()
        with (
            BatchLog(directory / "batches.log") as log,
            Journal(
                directory, log, max_bytes=max_bytes, segment_bytes=segment_bytes, metrics=metrics
            ) as journal,
        ):
            yield OpenedJournal(journal, log, metrics)

    return open_
