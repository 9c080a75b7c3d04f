"""The collector is killed again and again while it takes spans: what it acknowledged is there, exactly once, in every table."""

from pathlib import Path

import pytest
from torture.play import Torture

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

KILLS = 8


def test_kills_at_any_moment_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """Start-up, ingest, replay, retention, a disk that takes nothing, with strangers at the ports (`make torture` goes on for longer)."""
    torture = Torture(tmp_path / "data", seed=4711)
    while torture.kills < KILLS:
        torture.once()
    played = torture.end()
    assert played.acknowledged >= 1000
    assert (played.counted.lost, played.counted.doubled, played.counted.invented) == (0, 0, 0), played.line()
    assert played.refused > 0
