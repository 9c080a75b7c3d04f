"""Torn tails and flipped bits: what was acknowledged and is not itself damaged comes back, once."""

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
