"""The log of batch boundaries: the same after a crash, so that tokens are the same."""

import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hopwatch_collector.journal import BatchLog, Stretch


def test_boundaries_survive_without_a_close(tmp_path: Path) -> None:
    """Batches begun are known to whoever opens the log next, with the same tokens."""
    path = tmp_path / "batches.log"
    with BatchLog(path) as log:
        for start in (0, 10, 20):
            log.begin(Stretch(start, start + 10))
        log.checkpoint(10)
        tokens = [log.token(stretch) for stretch in log.unconfirmed]
        with BatchLog(path) as other:
            assert other.checkpointed == 10
            assert other.end == 30
            assert [other.token(stretch) for stretch in other.unconfirmed] == tokens


def test_tokens_differ_between_journals(tmp_path: Path) -> None:
    """Two journals that feed one engine never share a token."""
    with BatchLog(tmp_path / "a.log") as one, BatchLog(tmp_path / "b.log") as other:
        assert one.token(Stretch(0, 10)) != other.token(Stretch(0, 10))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(torn=st.integers(min_value=1, max_value=40))
def test_a_torn_last_line_is_as_if_never_written(tmp_path: Path, torn: int) -> None:
    """A line that was not wholly written was never acted upon."""
    path = tmp_path / "batches.log"
    path.unlink(missing_ok=True)
    with BatchLog(path) as log:
        log.begin(Stretch(0, 10))
        whole = path.read_bytes()
        log.begin(Stretch(10, 123456789))
    path.write_bytes(path.read_bytes()[:-torn] if torn < len(path.read_bytes()) - len(whole) else whole)
    with BatchLog(path) as log:
        assert log.unconfirmed[:1] == [Stretch(0, 10)]
        assert log.unconfirmed in ([Stretch(0, 10)], [Stretch(0, 10), Stretch(10, 123456789)])
        log.begin(Stretch(10, 20))
    with BatchLog(path) as log:
        assert log.unconfirmed[-1] == Stretch(10, 20)


def test_a_line_that_the_disk_took_half_of_is_written_over(tmp_path: Path) -> None:
    """A full disk takes the first bytes of a line: the next try leaves no rubbish before its own, and loses no batch."""
    path = tmp_path / "batches.log"
    with BatchLog(path) as log:
        log.begin(Stretch(0, 10))
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 7, limit[1]))
        try:
            with pytest.raises(OSError, match="large"):
                log.begin(Stretch(10, 20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert log.end == 10
        log.begin(Stretch(10, 30))
        with BatchLog(path) as other:
            assert other.unconfirmed == [Stretch(0, 10), Stretch(10, 30)]
            assert other.missing == []


@pytest.mark.parametrize(
    ("spoiled", "missing"), [(2, Stretch(5, 10)), (3, Stretch(10, 20))], ids=["the first", "in the midst"]
)
def test_a_batch_whose_line_is_lost_is_a_batch(tmp_path: Path, spoiled: int, missing: Stretch) -> None:
    """Batches follow one another: where a line cannot be read, what lies between the others is given to the engine, by the same token."""
    path = tmp_path / "batches.log"
    with BatchLog(path) as log:
        log.checkpoint(5)
        whole = [Stretch(5, 10), Stretch(10, 20), Stretch(20, 30)]
        for stretch in whole:
            log.begin(stretch)
        tokens = [log.token(stretch) for stretch in whole]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[spoiled] = b"batch 9" + lines[spoiled][7:]
    path.write_bytes(b"".join(lines))
    with BatchLog(path) as log:
        assert log.unconfirmed == whole
        assert log.missing == [missing]
        assert [log.token(stretch) for stretch in log.unconfirmed] == tokens
