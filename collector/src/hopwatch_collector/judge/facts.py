"""The ledger's rows folded into facts: one per message, receiver, attempt and hop."""

from typing import Final

import polars as pl

from hopwatch_collector.judge.frames import FACT_KEY, FACTS

_FIRST: Final = frozenset({"started_at", "day"})
"""Of these the least counts, of keys all there are, of any other column the greatest: as the engine folds rows when it merges parts."""


def folded(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the facts of rows of which several may be about one hop: parts that have not been merged yet. Times in µs.

    What is now told under another key is left out. Most hops have but one row, which is taken as it is.
    """
    repeated = rows.select(pl.struct(FACT_KEY).is_duplicated()).to_series()
    if repeated.any():
        several = (
            rows.filter(repeated)
            .group_by(FACT_KEY)
            .agg(_fold(name) for name in rows.columns if name not in FACT_KEY)
        )
        rows = pl.concat([rows.filter(~repeated), several.select(rows.columns)])
    if rows["moved"].any():
        rows = rows.filter(~pl.col("moved"))
    return rows.select(*FACTS)


def _fold(name: str) -> pl.Expr:
    if name == "keys":
        return pl.col(name).explode(empty_as_null=False).unique()
    return pl.col(name).min() if name in _FIRST else pl.col(name).max()
