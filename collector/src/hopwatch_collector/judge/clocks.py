"""Times by the collector's clock: what is taken off the times of processes whose clocks are known to be off."""

from collections.abc import Mapping

import polars as pl


def with_offset(frame: pl.DataFrame, offsets: Mapping[int, int]) -> pl.DataFrame:
    """Return the frame with `off_us`: how far ahead the clock of each row's `resource` is."""
    known = {resource: off for resource, off in offsets.items() if off}
    if not known or frame.is_empty():
        return frame.with_columns(off_us=pl.lit(0, pl.Int64))
    return frame.with_columns(
        off_us=pl.col("resource").replace_strict(
            pl.Series(list(known), dtype=pl.UInt64),
            pl.Series(list(known.values()), dtype=pl.Int64),
            default=0,
        )
    )


def corrected(name: str) -> pl.Expr:
    """Return a time with its row's offset taken off; never and always stay what they are."""
    told = pl.col(name)
    return pl.when(told > 0).then(told - pl.col("off_us")).otherwise(told)
