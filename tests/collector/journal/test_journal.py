"""The journal: acknowledged bytes come back, in order, once; bounds and failures refuse instead of losing."""

import asyncio
import os
import resource
import threading
from pathlib import Path

import pytest

from hopwatch_collector.errors import JournalFailed, JournalFull, StartError
from hopwatch_demo.patience import scale_wait


def test_appended_requests_are_read_back_in_order(open_journal, tmp_path: Path) -> None:
    """What was acknowledged is read back in the order it was appended."""
    with open_journal(tmp_path) as opened:
        opened.append(b"one", b"two", b"")
        opened.append(b"three")
        assert opened.everything() == [b"one", b"two", b"", b"three"]


def test_reopening_keeps_what_was_appended(open_journal, tmp_path: Path) -> None:
    """A journal opened again still holds everything after its checkpoint, and takes more."""
    with open_journal(tmp_path) as opened:
        opened.append(b"one")
    with open_journal(tmp_path) as opened:
        opened.append(b"two")
        assert opened.everything() == [b"one", b"two"]


def test_requests_during_a_write_share_the_next_fsync(open_journal, tmp_path: Path) -> None:
    """A hundred requests that arrive while one is being written need two fsyncs, not a hundred."""
    with open_journal(tmp_path) as opened:

        async def arrive_during_a_write() -> None:
            with opened.journal._lock:  # the first group cannot end before all others have arrived
                futures = [opened.journal.append(b"x" * 100, 1) for _ in range(100)]
            await asyncio.gather(*futures)

        asyncio.run(arrive_during_a_write())
        count = opened.metrics.registry.get_sample_value("hopwatch_journal_fsync_seconds_count")
        assert 1 <= count <= 2


def test_segments_rotate_and_a_chunk_stays_inside_one(open_journal, tmp_path: Path) -> None:
    """A new segment begins when the last has its size; reading crosses over without a gap."""
    payloads = [bytes([n]) * 400 for n in range(30)]
    with open_journal(tmp_path, segment_bytes=1000) as opened:
        for payload in payloads:
            opened.append(payload)
        assert len(list(tmp_path.glob("*.segment"))) == 10
        first = opened.journal.read(0, max_spans=1000)
        assert first is not None
        assert first.payload == b"".join(payloads[:3])
        assert len(first.records) == first.spans == 3
        assert opened.everything() == payloads


def test_released_segments_are_deleted_and_positions_go_on(open_journal, tmp_path: Path) -> None:
    """After everything is released and closed no segment is left, and positions are never used twice."""
    with open_journal(tmp_path) as opened:
        opened.append(b"one")
        end = opened.journal.durable
        opened.log.checkpoint(end)
        opened.journal.close()
        opened.journal.release(end)
    assert list(tmp_path.glob("*.segment")) == []
    with open_journal(tmp_path) as opened:
        opened.append(b"two")
        chunk = opened.journal.read(opened.log.checkpointed)
        assert chunk is not None
        assert (chunk.payload, chunk.records[0].start) == (b"two", end)


def test_a_full_journal_refuses_until_it_is_released(open_journal, tmp_path: Path) -> None:
    """At its bound the journal refuses at once, retryably; released space is taken again."""
    with open_journal(tmp_path, max_bytes=5000, segment_bytes=1000) as opened:
        for _ in range(4):
            opened.append(b"x" * 1000)
        with pytest.raises(JournalFull) as refusal:
            opened.append(b"x" * 1000)
        assert refusal.value.retry_after_s > 0
        opened.journal.release(2000)
        opened.append(b"y" * 1000)
        assert opened.everything(start=0)[-1] == b"y" * 1000


def test_a_disk_that_takes_no_more_refuses_and_loses_nothing(open_journal, tmp_path: Path) -> None:
    """A write cut short (here by a file size limit) refuses its requests only; the next one works again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_journal(tmp_path) as opened:
        opened.append(b"before")
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (4096, hard)
        )  # Python ignores SIGXFSZ: writes fail with EFBIG
        try:
            with pytest.raises(JournalFailed, match="cannot be written"):
                opened.append(b"x" * 10_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        opened.append(b"after")
        assert opened.everything() == [b"before", b"after"]
    with open_journal(tmp_path) as opened:
        assert opened.everything() == [b"before", b"after"]


def test_closing_twice_is_safe_and_appending_then_refuses(open_journal, tmp_path: Path) -> None:
    """A closed journal stays closed quietly and refuses retryably."""
    with open_journal(tmp_path) as opened:
        opened.journal.close()
        opened.journal.close()
        with pytest.raises(JournalFailed, match="stopping"):
            opened.append(b"late")


def test_closing_writes_what_was_queued(open_journal, tmp_path: Path) -> None:
    """Requests queued before the close are acknowledged, not dropped."""
    with open_journal(tmp_path) as opened:

        async def queue_then_close() -> None:
            futures = [opened.journal.append(b"x", 1) for _ in range(50)]
            await asyncio.to_thread(opened.journal.close)
            await asyncio.gather(*futures)

        asyncio.run(queue_then_close())
        assert opened.everything() == [b"x"] * 50


def test_a_sender_that_left_does_not_disturb_the_others(open_journal, tmp_path: Path) -> None:
    """A cancelled wait is no error for those in the same group."""
    with open_journal(tmp_path) as opened:

        async def leave() -> None:
            first, second = (opened.journal.append(b"x", 1) for _ in range(2))
            first.cancel()
            await second

        asyncio.run(leave())
        assert opened.everything() == [b"x", b"x"]


def test_waiting_ends_when_something_arrives(open_journal, tmp_path: Path) -> None:
    """`wait` returns true as soon as bytes lie beyond the position, and false when none come."""
    with open_journal(tmp_path) as opened:
        assert not opened.journal.wait(0, 0.01)
        waited: list[bool] = []
        thread = threading.Thread(target=lambda: waited.append(opened.journal.wait(0, scale_wait(30))))
        thread.start()
        opened.append(b"x")
        thread.join(scale_wait(20))
        assert waited == [True]


def test_segments_without_their_log_are_not_trusted(open_journal, tmp_path: Path) -> None:
    """Without the log the segments cannot be checked: starting is refused, with what to do."""
    with open_journal(tmp_path) as opened:
        opened.append(b"one")
    os.unlink(tmp_path / "batches.log")
    with pytest.raises(StartError, match=r"move .* away"), open_journal(tmp_path):
        pass


def test_a_foreign_file_among_the_segments_is_named(open_journal, tmp_path: Path) -> None:
    """A file that only looks like a segment stops the start and is named."""
    (tmp_path / "mine.segment").write_bytes(b"x")
    with pytest.raises(StartError), open_journal(tmp_path):
        pass
