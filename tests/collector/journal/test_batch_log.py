"""The log of batch boundaries: the same after a crash, so that tokens are the same."""

from pathlib import Path

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
