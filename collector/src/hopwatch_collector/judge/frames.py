"""What every part of the judge says about columns: their types, and frames without rows."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import polars as pl

NEVER: Final = 0
"""µs since 1970 of what has not happened."""
ALWAYS: Final = 10_382_256_000_000_000
"""µs since 1970 of 2299-01-01, which stands for no end."""
SECOND: Final = 1_000_000

SIDE_KEY: Final = ["message", "receiver"]
FACT_KEY: Final = ["message", "receiver", "attempt", "hop"]
STATE_KEY: Final = ["system", "broker", "destination", "receiver", "partition"]
"""Names of a place at which a receiver stands. What bears them may be deleted and made again: that is another incarnation of it."""

ANYBODY: Final = "*"
"""The receiver that a process names whose library of a broker could not be instrumented: it may receive as any of its service's."""

KEYS: Final = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))

Kind = pl.DataType | type[pl.DataType]
Schema = Mapping[str, Kind]

FACTS: Final[Schema] = {
    "message": pl.Binary,
    "receiver": pl.String,
    "attempt": pl.Int64,
    "hop": pl.Binary,
    "resource": pl.UInt64,
    "started_at": pl.Int64,
    "ended_at": pl.Int64,
    "call": pl.Boolean,
    "system": pl.String,
    "broker": pl.String,
    "destination": pl.String,
    "service": pl.String,
    "peer": pl.String,
    "trace_id": pl.Binary,
    "flow": pl.Binary,
    "outcome": pl.Int8,
    "settle": pl.Int8,
    "failed": pl.Boolean,
    "dead": pl.Boolean,
    "error": pl.String,
    "reason": pl.String,
    "partition": pl.String,
    "offset": pl.Int64,
    "pending": pl.Int64,
    "conversation": pl.String,
    "keys": KEYS,
    "unnamed": pl.Boolean,
    "day": pl.Date,
}

ROWS_OF_FACTS: Final[Schema] = {**FACTS, "moved": pl.Boolean}

SUBSCRIPTIONS: Final[Schema] = {
    "system": pl.String,
    "broker": pl.String,
    "pattern": pl.String,
    "receiver": pl.String,
    "durable": pl.Boolean,
    "resource": pl.UInt64,
    "first_at": pl.Int64,
    "last_at": pl.Int64,
    "unsubscribed_at": pl.Int64,
    "by_service": pl.Boolean,
}

EXPECTED: Final[Schema] = {
    "system": pl.String,
    "receiver": pl.String,
    "pattern": pl.String,
    "from_at": pl.Int64,
    "until_at": pl.Int64,
    "prefix": pl.String,
    "expression": pl.String,
}

MESSAGE_EVENTS: Final[Schema] = {
    "message": pl.Binary,
    "receiver": pl.String,
    "kind": pl.String,
    "at": pl.Int64,
    "number": pl.Int64,
}

STATES: Final[Schema] = {
    **dict.fromkeys(STATE_KEY, pl.String),
    "incarnation": pl.String,
    "at": pl.Int64,
    **dict.fromkeys(
        (
            "first", "end", "next", "done", "waiting", "in_hand", "published", "handed", "acked", "ttl_ms",
            "max_length", "dead_letters", "uncounted", "heard_from", "consumers", "unchanged_until",
        ),
        pl.Int64,
    ),
    "state": pl.String,
    "kind": pl.String,
}  # fmt: skip

COMMITS: Final[Schema] = {
    "broker": pl.String,
    "destination": pl.String,
    "receiver": pl.String,
    "partition": pl.String,
    "offset": pl.Int64,
    "at": pl.Int64,
    "last_at": pl.Int64,
    "resource": pl.UInt64,
}

SEEKS: Final[Schema] = {
    "broker": pl.String,
    "destination": pl.String,
    "receiver": pl.String,
    "partition": pl.String,
    "at": pl.Int64,
    "from_offset": pl.Int64,
    "to_offset": pl.Int64,
    "resource": pl.UInt64,
}

ADVISORIES: Final[Schema] = {
    "system": pl.String,
    "broker": pl.String,
    "receiver": pl.String,
    "partition": pl.String,
    "offset": pl.Int64,
    "kind": pl.String,
    "at": pl.Int64,
}

POLLS: Final[Schema] = {
    "system": pl.String,
    "broker": pl.String,
    "ok_at": pl.Int64,
    "trouble": pl.String,
    "blind": pl.String,
}

BROKERS: Final[Schema] = {
    "system": pl.String,
    "told": pl.String,
    "name": pl.String,
}

COVERAGE: Final[Schema] = {
    "system": pl.String,
    "broker": pl.String,
    "receiver": pl.String,
    "resource": pl.UInt64,
    "member": pl.String,
    "reads": pl.Boolean,
    "part": pl.Boolean,
    "first_at": pl.Int64,
    "last_at": pl.Int64,
    "left_at": pl.Int64,
}

FOREIGN_READERS: Final[Schema] = {
    "system": pl.String,
    "broker": pl.String,
    "destination": pl.String,
    "receiver": pl.String,
}

SERVICES: Final[Schema] = {
    "resource": pl.UInt64,
    "service": pl.String,
}

LOSSES: Final[Schema] = {
    "resource": pl.UInt64,
    "since": pl.Int64,
    "until": pl.Int64,
}

DEADLINES: Final[Schema] = {
    "number": pl.Int64,
    "system": pl.String,
    "destination": pl.String,
    "prefix": pl.String,
    "expression": pl.String,
    "receiver": pl.String,
    "seconds": pl.Float64,
}


def empty(schema: Schema) -> pl.DataFrame:
    """Return a frame without rows."""
    return _empty(tuple(schema.items()))


@lru_cache(maxsize=64)
def _empty(columns: tuple[tuple[str, Kind], ...]) -> pl.DataFrame:
    """The same: to make one takes longer than a join of it."""
    return pl.DataFrame(schema=dict(columns))


def shaped(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Return the columns of a schema in its types, whatever the engine made of them."""
    return frame.select(pl.col(name).cast(kind) for name, kind in schema.items())


def shaped_or_empty(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Return the same; no columns at all are no rows."""
    return shaped(frame, schema) if frame.width else empty(schema)
