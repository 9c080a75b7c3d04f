"""Torn tails and flipped bits: what was acknowledged and is not itself damaged comes back, once."""

import resource
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from hopwatch_collector.errors import JournalFailed
from hopwatch_collector.journal.records import MAGIC, Salt, header

payload_lists = st.lists(
    st.one_of(st.binary(max_size=200), st.just(MAGIC * 5), st.just(header(b"fake", 1, 0, Salt(0)) + b"fake")),
    min_size=1,
    max_size=12,
)
per_example = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def fresh(tmp_path: Path):
    """An empty directory per example, not per test."""

    def make() -> Path:
        directory = tmp_path / "journal"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        return directory

    return make


@per_example
@given(payloads=payload_lists, torn=st.binary(max_size=60), cut=st.integers(min_value=0, max_value=400))
def test_a_torn_tail_costs_nothing_acknowledged(open_journal, fresh, payloads, torn, cut) -> None:
    """Rubbish or half a record after the last acknowledged one is cut off; the journal goes on behind it."""
    directory = fresh()
    with open_journal(directory) as opened:
        opened.append(*payloads)
        half = header(b"y" * 300, 1, opened.journal.durable, opened.log.salt) + b"y" * 300
    [segment] = directory.glob("*.segment")
    with segment.open("ab") as file:
        file.write(half[: min(cut, len(half) - 1)] + torn.replace(b"y", b"z"))
    with open_journal(directory) as opened:
        opened.append(b"next")
        assert opened.everything() == [*payloads, b"next"]
    with open_journal(directory) as opened:
        assert opened.everything() == [*payloads, b"next"]


@per_example
@given(payloads=payload_lists, data=st.data())
def test_a_flipped_bit_costs_one_request_at_most(open_journal, fresh, payloads, data) -> None:
    """One flipped bit anywhere loses the record it is in, never its neighbours, and invents nothing."""
    directory = fresh()
    with open_journal(directory) as opened:
        opened.append(*payloads)
        opened.append(b"last")
        starts = [opened.journal.read(0).records[n].start for n in range(len(payloads) + 1)]
    [segment] = directory.glob("*.segment")
    content = bytearray(segment.read_bytes())
    bit = data.draw(st.integers(min_value=0, max_value=len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    segment.write_bytes(content)
    hit = max(n for n, start in enumerate(starts) if start <= bit // 8)
    expected = [*payloads, b"last"]
    del expected[hit]
    with open_journal(directory) as opened:
        assert opened.everything() == expected
        opened.append(b"next")
        assert opened.everything() == [*expected, b"next"]


@per_example
@given(payloads=payload_lists, keep=st.integers(min_value=0, max_value=3000))
def test_a_file_cut_anywhere_gives_its_whole_records(open_journal, fresh, payloads, keep) -> None:
    """Whatever length the file system kept, every record that is whole comes back and nothing else does."""
    directory = fresh()
    with open_journal(directory) as opened:
        opened.append(*payloads)
        ends = [record.end for record in opened.journal.read(0).records]
    [segment] = directory.glob("*.segment")
    kept = min(keep, ends[-1])
    with segment.open("r+b") as file:
        file.truncate(kept)
    with open_journal(directory) as opened:
        assert opened.everything() == [p for p, end in zip(payloads, ends, strict=True) if end <= kept]


def test_damage_is_counted(open_journal, tmp_path: Path) -> None:
    """Bytes stepped over show in the metrics."""
    with open_journal(tmp_path) as opened:
        opened.append(b"a" * 100, b"b" * 100, b"c" * 100)
    [segment] = tmp_path.glob("*.segment")
    content = bytearray(segment.read_bytes())
    content[150] ^= 1
    segment.write_bytes(content)
    with open_journal(tmp_path) as opened:
        assert opened.everything() == [b"a" * 100, b"c" * 100]
        assert opened.metrics.registry.get_sample_value("hopwatch_journal_damaged_bytes_total") == 116


def filled(open_journal, directory: Path) -> list[Path]:
    """A journal of several segments, of which batches have been made up to the last."""
    with open_journal(directory, segment_bytes=4096) as opened:
        for number in range(30):
            opened.append(bytes([number]) * 500)
        position = 0
        while (chunk := opened.journal.read(position)) is not None:
            opened.log.begin(chunk.stretch)
            position = chunk.stretch.end
    return sorted(directory.glob("*.segment"))


@pytest.mark.parametrize("which", [0, 1, -1], ids=["the first", "in the midst", "the last"])
@pytest.mark.parametrize("how", ["deleted", "zeroed"])
def test_a_segment_that_is_gone_is_told(open_journal, fresh, which: int, how: str) -> None:
    """Whatever was acknowledged and is neither known to be in the engine nor here is an error, with its position, and counted."""
    directory = fresh()
    segment = filled(open_journal, directory)[which]
    size, position = segment.stat().st_size, int(segment.stem)
    if how == "deleted":
        segment.unlink()
    else:
        segment.write_bytes(bytes(size))
    with capture_logs() as logged, open_journal(directory) as opened:
        kept = len(opened.everything())
        assert opened.metrics.registry.get_sample_value("hopwatch_journal_damaged_bytes_total") == size
    assert kept < 30
    [told] = [line for line in logged if line["log_level"] == "error"]
    assert (told["position"], told["bytes"]) == (position, size)


def test_positions_that_a_failed_write_left_out_are_no_gap(open_journal, fresh) -> None:
    """After a write that the disk did not take, the journal goes on beyond it: nothing acknowledged is missing there."""
    directory = fresh()
    with open_journal(directory) as opened:
        opened.append(b"one")
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
        try:
            with pytest.raises(JournalFailed):
                opened.append(b"x" * (2 << 20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        opened.append(b"two")
    with capture_logs() as logged, open_journal(directory) as opened:
        assert opened.everything() == [b"one", b"two"]
    assert [line for line in logged if line["log_level"] == "error"] == []


def test_a_first_write_that_failed_is_no_gap(open_journal, fresh) -> None:
    """Nor where no segment was left when the write failed."""
    directory = fresh()
    with open_journal(directory) as opened:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
        try:
            with pytest.raises(JournalFailed):
                opened.append(b"x" * (2 << 20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        opened.append(b"one")
    with capture_logs() as logged, open_journal(directory) as opened:
        assert opened.everything() == [b"one"]
    assert [line for line in logged if line["log_level"] == "error"] == []
