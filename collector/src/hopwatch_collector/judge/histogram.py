"""Durations in buckets that can be added up: each is a fiftieth wider than the one before."""

import math
from collections.abc import Mapping
from typing import Final

import polars as pl

WIDTH: Final = 1.02
"""How much longer the longest duration of a bucket is than its shortest: what is read from it is right to one percent."""
_LOG: Final = math.log(WIDTH)


def bucket_of(us: pl.Expr) -> pl.Expr:
    """Return the bucket of a duration in µs; -1 where there is none."""
    number = ((us.clip(lower_bound=0) + 1).log() / _LOG).round().cast(pl.Int16)
    return number.fill_null(-1)


def middle(bucket: int) -> float:
    """Return the duration in µs that a bucket stands for."""
    return math.exp(bucket * _LOG) - 1


def quantiles(counts: Mapping[int, int], *shares: float) -> list[float | None]:
    """Return the durations in µs that so many of those counted do not exceed; None where nothing was counted."""
    counted = sorted((bucket, count) for bucket, count in counts.items() if bucket >= 0 and count > 0)
    total = sum(count for _, count in counted)
    return [_at(counted, share * total) if total else None for share in shares]


def _at(counted: list[tuple[int, int]], rank: float) -> float:
    below = 0
    for bucket, count in counted:
        below += count
        if below >= rank:
            return middle(bucket)
    return middle(counted[-1][0])
