"""Writes what changed: of every delivery one current row in `deliveries`, and in `attention` while it is open or undelivered."""

from dataclasses import dataclass
from typing import Final, Protocol

import polars as pl

from hopwatch_collector.judge.frames import KEYS, Schema, shaped

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
    "sender_off_us": pl.Int64,
    "receiver_off_us": pl.Int64,
    "backwards": pl.UInt8,
    "received_in": pl.Int16,
    "settled_in": pl.Int16,
    "worked_for": pl.Int16,
}
"""A row of `deliveries` without its sign; times in µs, minutes in s."""
SIGNED: Final[Schema] = {**STORED, "sign": pl.Int8}

_TIMES: Final = ("since", "due_at", "next_at", "first_at", "sent_at", "received_at")
_AFTER_FIRST: Final = {"sent_at": "sent_after", "since": "since_after"}
"""Moments that `deliveries` keeps as µs after `first_at`, under these names."""
_ATTENTION: Final = (
    "tenant", "day", "system", "broker", "destination", "receiver", "minute", "message", "sign", "version", "verdict", "cause",
    "open", "first_at", "since", "next_at", "partition", "offset", "producer", "consumer", "flow",
)  # fmt: skip
_SAME_WHATEVER: Final = ("tenant", "day", "version", "keys")


class Writer(Protocol):
    """Of the store, what writing takes."""

    def write(self, table: str, rows: pl.DataFrame) -> None:
        """Insert rows. Raises EngineUnavailable."""


_VERSION: Final = [*_PAIR, "version", "day"]
"""By what a row is told from those it took the place of."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What has to be written so that deliveries stand as judged."""

    given: pl.DataFrame
    """New rows, by STORED."""
    taken_back: pl.DataFrame
    """The current rows that they take the place of, by STORED."""

    def signed(self) -> pl.DataFrame:
        """Return the rows to write, each with its sign."""
        back, given = pl.lit(-1, pl.Int8), pl.lit(1, pl.Int8)
        return pl.concat([self.taken_back.with_columns(sign=back), self.given.with_columns(sign=given)])


def live(rows: pl.DataFrame) -> pl.DataFrame:
    """Return, of all rows that there are of some messages (by SIGNED), those that count (by STORED): merges do so some time."""
    if rows.is_empty():
        return rows.drop("sign")
    left = pl.col("sign").sum().over(*_VERSION, "fingerprint")
    return (
        rows.with_columns(fingerprint=_fingerprint(rows))
        .filter((left > 0) & (pl.col("sign") > 0))
        .unique(_VERSION, maintain_order=True)
        .select(*STORED)
    )


def changes(current: pl.DataFrame, judged: pl.DataFrame) -> Changes:
    """Return what changes the current rows of some messages (by STORED) into what was judged of them."""
    new = shaped(judged.with_columns(tenant=pl.lit(""), version=pl.lit(1)), STORED)
    if current.is_empty():
        return Changes(new, current)
    # One row each is the rule; a crash between two days' parts may leave two, of which none is right by itself.
    known = (
        current.with_columns(fingerprint=_fingerprint(current))
        .group_by(_PAIR)
        .agg(
            rows=pl.len(),
            was=pl.col("fingerprint").first(),
            before=pl.col("version").max(),
            first_day=pl.col("day").min(),
        )
    )
    compared = new.with_columns(fingerprint=_fingerprint(new)).join(
        known, on=_PAIR, how="left", maintain_order="left"
    )
    same = ((pl.col("rows") == 1) & (pl.col("was") == pl.col("fingerprint"))).fill_null(value=False)
    given = compared.filter(~same).with_columns(
        version=(pl.col("before").fill_null(0) + 1).cast(pl.UInt32),
        day=pl.coalesce("first_day", "day"),
    )
    return Changes(given.select(*STORED), current.join(compared.filter(same), on=_PAIR, how="anti"))


def _fingerprint(rows: pl.DataFrame) -> pl.Series:
    """Of everything by which a delivery is told from what it was."""
    keys = rows["keys"].list.eval(
        pl.concat_str(pl.element().struct.field("name"), pl.lit("\x1f"), pl.element().struct.field("value"))
    )
    plain = rows.select(name for name in STORED if name not in _SAME_WHATEVER)
    return plain.with_columns(keys.list.join("\x1e").alias("keys")).hash_rows()


def write(writer: Writer, rows: pl.DataFrame) -> None:
    """Write signed rows of deliveries into both tables."""
    if rows.is_empty():
        return
    write_attention(writer, of_attention(rows))
    writer.write("deliveries", _told_apart(_timed(rows)))


def of_attention(rows: pl.DataFrame) -> pl.DataFrame:
    """Return those of some deliveries that belong into `attention`."""
    return rows.filter(pl.col("verdict") != "settled")


def write_attention(writer: Writer, rows: pl.DataFrame) -> None:
    """Write signed rows into `attention`, whatever other columns they have."""
    if not rows.is_empty():
        writer.write("attention", _timed(rows).select(_ATTENTION))


def _timed(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        *(pl.col(name).cast(pl.Datetime("us", "UTC")) for name in _TIMES if name in rows.columns),
        minute=pl.col("minute").cast(pl.UInt32),
    )


def _told_apart(rows: pl.DataFrame) -> pl.DataFrame:
    """Tell moments near the first fact by how far they are from it, as `deliveries` keeps them."""
    after = (
        (pl.col(name) - pl.col("first_at")).dt.total_microseconds().alias(kept)
        for name, kept in _AFTER_FIRST.items()
    )
    return rows.with_columns(*after).drop(_AFTER_FIRST)


def wanted_attention(current: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `attention` that belong to current deliveries (by STORED), by its columns but the sign."""
    return of_attention(current).select(name for name in _ATTENTION if name != "sign")
