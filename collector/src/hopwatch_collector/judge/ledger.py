"""Writes what changed: of every delivery one current row in `deliveries`, and in `attention` while it is open or undelivered."""

from collections.abc import Sequence
from typing import Final, Protocol

import polars as pl

from hopwatch_collector.judge.frames import KEYS, Schema, empty, shaped

_PAIR: Final = ["message", "receiver"]

STORED: Final[Schema] = {
    "tenant": pl.String,
    "day": pl.Date,
    "message": pl.Binary,
    "receiver": pl.String,
    "version": pl.UInt32,
    "minute": pl.Int64,
    "verdict": pl.String,
    "cause": pl.String,
    "detail": pl.String,
    "open": pl.UInt8,
    "since": pl.Int64,
    "due_at": pl.Int64,
    "next_at": pl.Int64,
    "witnesses": pl.UInt8,
    "system": pl.String,
    "broker": pl.String,
    "destination": pl.String,
    "producer": pl.String,
    "consumer": pl.String,
    "trace_id": pl.Binary,
    "flow": pl.Binary,
    "keys": KEYS,
    "partition": pl.String,
    "offset": pl.Int64,
    "pending": pl.Int64,
    "conversation": pl.String,
    "attempts": pl.UInt32,
    "call": pl.UInt8,
    "declared": pl.String,
    "outcome": pl.String,
    "publish_reason": pl.String,
    "sender_seen": pl.UInt8,
    "failed": pl.UInt8,
    "first_at": pl.Int64,
    "sent_at": pl.Int64,
    "received_at": pl.Int64,
    "settled_at": pl.Int64,
    "sender_off_us": pl.Int64,
    "receiver_off_us": pl.Int64,
    "backwards": pl.UInt8,
    "received_in": pl.Int16,
    "settled_in": pl.Int16,
    "worked_for": pl.Int16,
}
"""A row of `deliveries` without its sign; times in µs, minutes in s."""

_TIMES: Final = ("since", "due_at", "next_at", "first_at", "sent_at", "received_at", "settled_at")
_ATTENTION: Final = (
    "tenant", "day", "system", "broker", "destination", "receiver", "minute", "message", "sign", "version", "verdict", "cause",
    "open", "first_at", "since", "next_at", "partition", "offset", "producer", "consumer", "flow",
)  # fmt: skip
_SAME_WHATEVER: Final = ("tenant", "day", "version", "keys")


class Writer(Protocol):
    """Of the store, what writing takes."""

    def write(self, table: str, rows: pl.DataFrame) -> None:
        """Insert rows. Raises EngineUnavailable."""


def changes(current: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    """Return the signed rows that make `current` (by STORED) what was `judged`: rows taken back, and rows instead of them."""
    new = shaped(judged.with_columns(tenant=pl.lit(""), broker=pl.lit(""), version=pl.lit(1)), STORED)
    if current.is_empty():
        return new.with_columns(sign=pl.lit(1, pl.Int8))
    was = current.with_columns(print=_fingerprint(current))
    now = new.with_columns(print=_fingerprint(new))
    # One row each is the rule; a crash between two days' parts may leave two, of which none is right by itself.
    single = was.group_by(_PAIR).agg(
        rows=pl.len(),
        was=pl.col("print").first(),
        before=pl.col("version").max(),
        first_day=pl.col("day").min(),
    )
    compared = now.join(single, on=_PAIR, how="left", maintain_order="left")
    same = (pl.col("rows") == 1) & (pl.col("was") == pl.col("print"))
    changed = compared.filter(~same.fill_null(value=False))
    kept = compared.filter(same.fill_null(value=False)).select(_PAIR)
    back = was.join(kept, on=_PAIR, how="anti")
    given = changed.with_columns(
        version=(pl.col("before").fill_null(0) + 1).cast(pl.UInt32),
        day=pl.coalesce("first_day", "day"),
    )
    columns = list(STORED)
    return pl.concat(
        [
            back.select(columns).with_columns(sign=pl.lit(-1, pl.Int8)),
            given.select(columns).with_columns(sign=pl.lit(1, pl.Int8)),
        ]
    )


def _fingerprint(rows: pl.DataFrame) -> pl.Series:
    keys = rows["keys"].list.eval(
        pl.concat_str(pl.element().struct.field("name"), pl.lit("\x1f"), pl.element().struct.field("value"))
    )
    plain = rows.select(name for name in STORED if name not in _SAME_WHATEVER)
    return plain.with_columns(keys.list.join("\x1e").alias("keys")).hash_rows()


def write(writer: Writer, signed: pl.DataFrame) -> None:
    """Write signed rows of deliveries into both tables."""
    if signed.is_empty():
        return
    write_attention(writer, signed.filter(pl.col("verdict") != "settled"))
    writer.write("deliveries", _timed(signed))


def write_attention(writer: Writer, signed: pl.DataFrame) -> None:
    """Write signed rows into `attention`, whatever other columns they have."""
    if not signed.is_empty():
        writer.write("attention", _timed(signed).select(_ATTENTION))


def _timed(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        *(pl.col(name).cast(pl.Datetime("us", "UTC")) for name in _TIMES if name in rows.columns),
        minute=pl.col("minute").cast(pl.UInt32),
    )


def wanted_attention(current: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `attention` that belong to current deliveries, by its columns but the sign."""
    rows = shaped(current, STORED) if not current.is_empty() else empty(STORED)
    return rows.filter(pl.col("verdict") != "settled").select(name for name in _ATTENTION if name != "sign")


def messages_of(rows: pl.DataFrame) -> Sequence[bytes]:
    """Return the messages of rows, each once."""
    return rows["message"].unique().to_list()
