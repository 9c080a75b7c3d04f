"""Append-only segment files behind one writer thread; requests that arrive during an fsync share the next one."""

import asyncio
import contextlib
import mmap
import os
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog

from hopwatch_collector.errors import JournalFailed, JournalFull, StartError
from hopwatch_collector.journal.batches import BatchLog, Stretch
from hopwatch_collector.journal.files import fsync_dir, write_all
from hopwatch_collector.journal.records import HEADER_BYTES, Record, Salt, header, scan
from hopwatch_collector.metrics import Metrics

_log = structlog.get_logger("hopwatch.journal")
_SUFFIX = ".segment"
_GROUP_BYTES = 32 << 20
"""A group stops growing here, so that one write does not hold every sender up."""


@dataclass(slots=True)
class _Segment:
    """One file; its name is its first position, `end` the position after its last durable byte."""

    base: int
    end: int
    path: Path
    after: int
    """Where the one before it ends; less than `base` where a write between them failed, whose positions are not used again."""


@dataclass(frozen=True, slots=True)
class _Pending:
    payload: bytes
    spans: int
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Acknowledged requests that lie in a row, concatenated: itself one valid OTLP request."""

    stretch: Stretch
    spans: int
    payload: bytes
    records: tuple[Stretch, ...]
    """Where each single request lies."""


class Journal:
    """Keeps acknowledged requests until the engine has them.

    `append` belongs to one event loop; `read`, `wait` and `release` to one other thread, the pump's. Positions are
    bytes since the journal began; they only grow, over restarts too, and none is ever used twice.
    """

    def __init__(
        self, directory: Path, log: BatchLog, *, max_bytes: int, segment_bytes: int, metrics: Metrics
    ) -> None:
        self._dir = directory
        self._salt: Salt = log.salt
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._metrics = metrics
        self._lock = threading.Lock()
        self._grown = threading.Condition(self._lock)
        self._segments = _found(directory)
        self._next_base = max([log.end, *(s.end for s in self._segments)])
        self._drop_torn_tail()
        self._report_gaps(log)
        self._written = max([log.end, *(s.end for s in self._segments)])
        """Where what is on disk ends; `_next_base` lies beyond it after a write that failed."""
        self.recovered = self._next_base
        """Positions below this were written by earlier runs."""
        self._active = -1
        self._spans = 0
        self._hurried = False
        self._queued = 0
        self._queue: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._closed = False
        self.release(log.checkpointed)
        self._writer = threading.Thread(target=self._write_groups, name="journal", daemon=True)
        self._writer.start()

    @property
    def durable(self) -> int:
        """Position after the last byte known to be on disk."""
        with self._lock:
            return self._segments[-1].end if self._segments else self._next_base

    @property
    def crowded(self) -> bool:
        """Whether more than half of the bound is used."""
        return self._disk > self._max_bytes // 2

    def append(self, payload: bytes, spans: int) -> asyncio.Future[None]:
        """Queues one request; the future is done once its bytes are on disk.

        Raises:
            JournalFull: the bound is reached; nothing was queued.
            JournalFailed: the journal is closed. The future raises it where the disk does not take the bytes.
        """
        size = HEADER_BYTES + len(payload)
        if self._disk + self._queued + size > self._max_bytes:
            raise JournalFull("the journal is full: the engine is behind; send again later")
        if self._closed:
            raise JournalFailed("the collector is stopping; send again later")
        done = asyncio.get_running_loop().create_future()
        self._queued += size
        self._queue.put(_Pending(payload, spans, done))
        return done

    def lies_between(self, start: int, end: int) -> bool:
        """Whether a segment has anything of these positions."""
        with self._lock:
            return any(segment.base < end and segment.end > start for segment in self._segments)

    def wait(self, position: int, timeout: float) -> bool:
        """Waits until something lies beyond `position`, at most `timeout` seconds; whether it does."""
        with self._grown:
            self._grown.wait_for(lambda: self._hurried or self._lies_beyond(position), timeout)
            return self._lies_beyond(position)

    def wait_spans(self, total: int, timeout: float) -> None:
        """Waits until `total` spans have been appended since opening, at most `timeout` seconds."""
        with self._grown:
            self._grown.wait_for(lambda: self._hurried or self._spans >= total, timeout)

    def hurry(self) -> None:
        """From now on, nothing waits for more."""
        with self._grown:
            self._hurried = True
            self._grown.notify_all()

    def read(
        self,
        start: int,
        *,
        end: int | None = None,
        max_spans: int | None = None,
        max_bytes: int | None = None,
    ) -> Chunk | None:
        """Requests from position `start` on, up to `end`, about `max_spans` spans or `max_bytes` of them, out of one segment.

        Returns None where nothing lies beyond `start`. Damaged records are counted, logged and stepped over.
        """
        with self._lock:
            segment = next((s for s in self._segments if s.end > start), None)
            if segment is None or (end is not None and segment.base >= end):
                return None
            first, last = max(start, segment.base), min(segment.end, end or segment.end)
        with segment.path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            whole = memoryview(mapped)
            window = whole[first - segment.base : last - segment.base]
            try:
                return self._collect(window, first, start, max_spans, max_bytes)
            finally:
                window.release()
                whole.release()

    def release(self, position: int) -> None:
        """Deletes the segments that end at or before `position`."""
        with self._lock:
            active = self._segments[-1] if self._active >= 0 else None
            gone = [s for s in self._segments if s.end <= position and s is not active]
            self._segments = [s for s in self._segments if s not in gone]
        for segment in gone:
            segment.path.unlink(missing_ok=True)
        if gone:
            fsync_dir(self._dir)
        self._count_disk()

    def close(self) -> None:
        """Writes what is queued, ends the writer thread and closes its file. May be called twice."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._writer.join()
        if self._active >= 0:
            os.close(self._active)
            self._active = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the pump's side ---------------------------------------------------------------------------------

    def _lies_beyond(self, position: int) -> bool:
        return bool(self._segments) and self._segments[-1].end > position

    def _collect(
        self, window: memoryview, first: int, start: int, max_spans: int | None, max_bytes: int | None
    ) -> Chunk:
        records: list[Record] = []
        spans, end = 0, first
        for item in scan(window, first, self._salt):
            if isinstance(item, range):
                self._report_damage(item)
                end = item.stop
                continue
            records.append(item)
            spans, end = spans + item.spans, item.end
            if max_spans is not None and spans >= max_spans:
                break
            if max_bytes is not None and end - first >= max_bytes:
                break
        payload = b"".join(record.payload for record in records)
        cuts = tuple(Stretch(record.start, record.end) for record in records)
        for record in records:
            record.payload.release()
        return Chunk(Stretch(start, end), spans, payload, cuts)

    def _report_gaps(self, log: BatchLog) -> None:
        """At start: say where something was acknowledged, is not known to be in the engine, and is not here either."""
        position = log.checkpointed
        for segment in self._segments:
            if segment.after > position:
                self._report_gap(range(position, segment.after))
            position = max(position, segment.end)
        if log.end > position:
            self._report_gap(range(position, log.end))

    def _report_gap(self, gone: range) -> None:
        self._metrics.journal_damaged.inc(len(gone))
        _log.error(
            "journal incomplete",
            position=gone.start,
            bytes=len(gone),
            reason="a segment file is gone or cut short: what was acknowledged there is in the engine only as far as it got before",
            advice=f"look for a file {gone.start:020d}{_SUFFIX} or an earlier one that was moved or deleted in {self._dir}",
        )

    def _report_damage(self, damaged: range) -> None:
        self._metrics.journal_damaged.inc(len(damaged))
        _log.error("journal damaged", position=damaged.start, bytes=len(damaged))

    # --- the writer thread -------------------------------------------------------------------------------

    def _write_groups(self) -> None:
        while (group := self._next_group()) is not None:
            error: JournalFailed | None = None
            try:
                self._write(group)
            except OSError as failure:
                self._abandon_segment()
                error = JournalFailed(f"the journal cannot be written: {failure}")
                error.__cause__ = failure
                _log.error("journal write failed", error=str(failure), requests=len(group))
            with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits for the answer
                group[0].done.get_loop().call_soon_threadsafe(self._settle, group, error)

    def _next_group(self) -> list[_Pending] | None:
        """Everything that queued up during the last fsync; None when closed and empty."""
        item = self._queue.get()
        if item is None:
            return None
        group, size = [item], len(item.payload)
        while size < _GROUP_BYTES and not self._queue.empty():
            item = self._queue.get()
            if item is None:
                self._queue.put(None)  # found again after this group
                break
            group.append(item)
            size += len(item.payload)
        return group

    def _write(self, group: Sequence[_Pending]) -> None:
        began = time.perf_counter()
        segment = self._writable_segment()
        parts: list[bytes] = []
        position = segment.end
        for item in group:
            parts += (header(item.payload, item.spans, position, self._salt), item.payload)
            position += HEADER_BYTES + len(item.payload)
        self._next_base = position
        write_all(self._active, b"".join(parts))
        _sync(self._active)
        with self._grown:
            segment.end = self._written = position
            self._spans += sum(item.spans for item in group)
            self._grown.notify_all()
        self._count_disk()
        self._metrics.journal_fsync.observe(time.perf_counter() - began)

    def _writable_segment(self) -> _Segment:
        """The active segment, or a new one where there is none or it has its size."""
        if self._active >= 0:
            active = self._segments[-1]
            if active.end - active.base < self._segment_bytes:
                return active
            os.close(self._active)
            self._active = -1
        after = self._written
        name = (
            f"{self._next_base:020d}" if after == self._next_base else f"{self._next_base:020d}-{after:020d}"
        )
        path = self._dir / f"{name}{_SUFFIX}"
        self._active = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fresh = _Segment(self._next_base, self._next_base, path, after)
        with self._lock:
            self._segments.append(fresh)
        fsync_dir(self._dir)
        return fresh

    def _abandon_segment(self) -> None:
        """After a failed write: what it left behind must never be read, nor its positions used again.

        A failed fsync may have dropped pages while later ones succeed, so the file is not written to again.
        """
        if self._active < 0:
            return
        segment = self._segments[-1]
        with contextlib.suppress(OSError):  # then the reader's bound (`end`) still hides it until a restart
            os.ftruncate(self._active, segment.end - segment.base)
        os.close(self._active)
        self._active = -1
        if segment.end == segment.base:
            with self._lock:
                self._segments.remove(segment)
            segment.path.unlink(missing_ok=True)

    def _settle(self, group: Sequence[_Pending], error: JournalFailed | None) -> None:
        """On the event loop: tells every sender of a group how it went."""
        for item in group:
            self._queued -= HEADER_BYTES + len(item.payload)
            if item.done.done():  # the sender has gone
                continue
            if error is None:
                item.done.set_result(None)
            else:
                item.done.set_exception(error)

    # --- both --------------------------------------------------------------------------------------------

    def _count_disk(self) -> None:
        with self._lock:
            self._disk = sum(s.end - s.base for s in self._segments)
        self._metrics.journal_disk.set(self._disk)

    def _drop_torn_tail(self) -> None:
        """At start: the last segment may end in a record that was never acknowledged; it is cut off."""
        if not self._segments:
            return
        last = self._segments[-1]
        tail: Record | range | None = None
        with memoryview(last.path.read_bytes()) as data:
            for tail in scan(data, last.base, self._salt):
                if isinstance(tail, Record):
                    tail.payload.release()
        if isinstance(tail, range):
            _log.warning("journal tail cut off", position=tail.start, bytes=len(tail))
            os.truncate(last.path, tail.start - last.base)
            last.end = tail.start


def _found(directory: Path) -> list[_Segment]:
    """The segments on disk, oldest first; empty ones are removed.

    Raises:
        StartError: a file that ends like a segment is not named like one.
    """
    segments = []
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        size = path.stat().st_size
        try:
            base, after = _positions(path.stem)
        except ValueError:
            raise StartError(f"{path} is not a journal segment; move it away") from None
        if size:
            segments.append(_Segment(base, base + size, path, after))
        else:
            path.unlink()
    return segments


def _positions(stem: str) -> tuple[int, int]:
    """A segment's first position, and where the one before it ended. Raises ValueError."""
    base, mark, after = stem.partition("-")
    return int(base), int(after if mark else base)


def _sync(fd: int) -> None:
    """fdatasync where there is one (it also writes the size), else fsync."""
    getattr(os, "fdatasync", os.fsync)(fd)
