"""Durations in buckets: right to a percent, and quantiles of sums."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopwatch_collector.judge.histogram import bucket_of, middle, quantiles


@given(us=st.integers(0, 10**13))
def test_a_bucket_is_right_to_a_percent(us: int) -> None:
    """What a bucket stands for is no further from what was put in than one percent, or than a microsecond."""
    (bucket,) = pl.DataFrame({"us": [us]}).select(bucket_of(pl.col("us"))).to_series()
    assert middle(bucket) == pytest.approx(us, rel=0.011, abs=1)


def test_nothing_is_in_no_bucket() -> None:
    """Of what was not measured there is none."""
    frame = pl.DataFrame({"us": [None, 5]}, schema={"us": pl.Int64})
    assert frame.select(bucket_of(pl.col("us"))).to_series().to_list()[0] == -1


def test_quantiles() -> None:
    """Of a hundred equal ones and one long one the middle is one of the many; of nothing there is none."""
    assert quantiles({-1: 7}, 0.5, 0.99) == [None, None]
    half, most = quantiles({100: 99, 900: 1}, 0.5, 0.995)
    assert (half, most) == (middle(100), middle(900))
