"""Who was entitled to which destination, and when: spells of subscriptions, matched with the destinations of messages."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import polars as pl

from hopwatch_collector.judge.brokers import UNTOLD
from hopwatch_collector.judge.clocks import corrected, with_offset
from hopwatch_collector.judge.evidence import Evidence
from hopwatch_collector.judge.frames import ALWAYS, SECOND

_HELD_FOR_S: Final = 45
"""Subscriptions without a broker behind them last while reports come, every 15 s: three missed in a row end them."""

_MARKS: Final = "\x1f"
_SUBSCRIPTION: Final = ["system", "broker", "pattern", "receiver", "resource"]

_AMQP_PREFIX: Final = re.compile(r"^(.*?:)(?:[^:]*\.)?(?:\*|#)(?:\.|$)")

_PATTERN: Final = {
    "system": pl.String,
    "pattern": pl.String,
    "prefix": pl.String,
    "expression": pl.String,
    "declared": pl.Boolean,
}
_DESTINATION: Final = {"system": pl.String, "destination": pl.String}

ENTITLED_SCHEMA: Final = {
    "system": pl.String,
    "broker": pl.String,
    "destination": pl.String,
    "receiver": pl.String,
    "durable": pl.Boolean,
    "from_at": pl.Int64,
    "until_at": pl.Int64,
    "otherwise": pl.Boolean,
    "maybe": pl.Boolean,
    "any_broker": pl.Boolean,
    "declared": pl.Boolean,
    "delayed": pl.Boolean,
    "part_of": pl.String,
    "from_offset": pl.Int64,
    "by_service": pl.Boolean,
    "bare": pl.String,
}
"""`part_of`: the only partition it is about, empty for all; `from_offset`: before it nothing is owed."""


def entitlements(evidence: Evidence, destinations: pl.DataFrame) -> pl.DataFrame:
    """Return a row per destination (`system`, `destination`), receiver and spell in which it was entitled to it."""
    spells = _spells(evidence)
    expected = evidence.expected.select(
        "system",
        "receiver",
        "pattern",
        "prefix",
        "expression",
        "from_at",
        "until_at",
        broker=pl.lit(UNTOLD),
        any_broker=pl.lit(value=False),
        durable=pl.lit(value=True),
        declared=pl.lit(value=True),
        by_service=pl.lit(value=False),
    )
    if (spells.is_empty() and expected.is_empty()) or destinations.is_empty():
        return pl.DataFrame(schema=ENTITLED_SCHEMA)
    patterns = pl.concat(
        [
            spells.select("system", "pattern").unique().with_columns(prefix=pl.lit(""), expression=pl.lit(""), declared=pl.lit(value=False)),
            expected.select("system", "pattern", "prefix", "expression", "declared").unique(),
        ]
    )  # fmt: skip
    matched = _matched(patterns, destinations)
    # Of several brokers, it may be any whose subscriber does not tell which one it means.
    untold = (pl.col("broker") == UNTOLD) & pl.col("system").is_in(list(evidence.brokers.several))
    told = matched.filter(~pl.col("declared")).join(
        spells.with_columns(any_broker=untold), on=["system", "pattern"]
    )
    wanted = matched.filter("declared").join(
        expected.drop("durable", "declared"), on=["system", "pattern", "prefix", "expression"]
    ).with_columns(durable=pl.lit(value=True))  # fmt: skip
    columns = list(ENTITLED_SCHEMA)
    return pl.concat([told.select(columns), wanted.select(columns)])


def lets_through(patterns: pl.DataFrame, destinations: pl.DataFrame) -> pl.DataFrame:
    """Return the patterns (`system`, `pattern`) of brokers and services with the destinations they let through."""
    plain = patterns.with_columns(prefix=pl.lit(""), expression=pl.lit(""), declared=pl.lit(value=False))
    return _matched(plain, destinations)


def _spells(evidence: Evidence) -> pl.DataFrame:
    """Return from when until when each subscription held, by the collector's clock."""
    return pl.concat([_lasting(evidence), _while_reported(evidence)])


def _lasting(evidence: Evidence) -> pl.DataFrame:
    """Durable ones: from the first report until they are given up."""
    left = pl.col("unsubscribed_at") > pl.col("last_at")
    return (
        with_offset(evidence.durable, evidence.clock_offsets)
        .with_columns(from_at="first_at", until_at=pl.when(left).then("unsubscribed_at").otherwise(ALWAYS))
        .select(*_SUBSCRIPTION, "durable", "by_service", _moved("from_at"), _moved("until_at"))
    )


def _while_reported(evidence: Evidence) -> pl.DataFrame:
    """Others: while reports keep coming, until the next leaving or for three times as long as reports are apart."""
    reports = _without_known_clients(evidence.brief)
    if reports.is_empty():
        return pl.DataFrame(
            schema=dict.fromkeys(["system", "broker", "pattern", "receiver"], pl.String)
            | {
                "resource": pl.UInt64,
                "durable": pl.Boolean,
                "by_service": pl.Boolean,
                "from_at": pl.Int64,
                "until_at": pl.Int64,
            }
        )
    left = (
        reports.filter(pl.col("unsubscribed_at") > 0)
        .select(*_SUBSCRIPTION, left_at="unsubscribed_at")
        .unique()
        .sort("left_at")
    )
    held = (
        reports.filter(pl.col("last_at") > 0)
        # Strictly after the report: what left at the very moment had come back.
        .with_columns(after=pl.col("last_at") + 1)
        .sort("after")
        .join_asof(
            left,
            left_on="after",
            right_on="left_at",
            by=_SUBSCRIPTION,
            strategy="forward",
            check_sortedness=False,
        )
        .with_columns(
            until_at=pl.min_horizontal(pl.col("last_at") + _HELD_FOR_S * SECOND, pl.col("left_at")),
            durable=pl.lit(value=False),
        )
        .sort(*_SUBSCRIPTION, "first_at")
    )
    begins = pl.col("first_at") > pl.col("until_at").shift(1).over(_SUBSCRIPTION)
    return (
        held.with_columns(spell=begins.fill_null(value=False).cum_sum().over(_SUBSCRIPTION))
        .group_by(*_SUBSCRIPTION, "durable", "by_service", "spell", maintain_order=True)
        .agg(from_at=pl.col("first_at").first(), until_at=pl.col("until_at").max())
        .pipe(with_offset, evidence.clock_offsets)
        .select(*_SUBSCRIPTION, "durable", "by_service", _moved("from_at"), _moved("until_at"))
    )


def _moved(name: str) -> pl.Expr:
    bounded = pl.col(name) < ALWAYS
    return pl.when(bounded).then(corrected(name)).otherwise(pl.col(name)).alias(name)


def _without_known_clients(reports: pl.DataFrame) -> pl.DataFrame:
    """Leave out NATS clients that only the server knows where a service reports the same subject itself: it may be that service."""
    if reports.is_empty():
        return reports
    client = pl.col("receiver").str.starts_with("client ")
    itself = pl.col("receiver").str.ends_with(pl.concat_str(pl.lit(":"), pl.col("pattern")))
    known = reports.filter((pl.col("system") == "nats") & ~client & itself)["pattern"].unique()
    return reports.filter(~client | ~pl.col("pattern").is_in(known.implode()))


def _matched(patterns: pl.DataFrame, destinations: pl.DataFrame) -> pl.DataFrame:
    """Return the patterns with the destinations they let through, and what stands before a pattern as columns."""
    asked = (
        tuple(sorted(frame.unique().rows()))
        for frame in (patterns.select(list(_PATTERN)), destinations.select(list(_DESTINATION)))
    )
    return _matched_rows(*asked)


@lru_cache(maxsize=4)
def _matched_rows(of: tuple[Any, ...], to: tuple[Any, ...]) -> pl.DataFrame:
    """The same of rows: from one batch to the next they are mostly the same."""
    patterns = pl.DataFrame(list(of), schema=_PATTERN, orient="row")
    destinations = pl.DataFrame(list(to), schema=_DESTINATION, orient="row")
    marked = patterns.with_columns(parts=pl.col("pattern").str.split(_MARKS)).with_columns(
        bare=pl.when("declared").then("pattern").otherwise(pl.col("parts").list.last()),
        otherwise=~pl.col("declared") & pl.col("parts").list.contains("otherwise"),
        maybe=~pl.col("declared") & pl.col("parts").list.contains("maybe"),
        exactly=~pl.col("declared") & pl.col("parts").list.contains("exactly"),
        delayed=~pl.col("declared") & pl.col("parts").list.contains("delayed"),
        part_of=_said("partition").fill_null(""),
        from_offset=_said("from").cast(pl.Int64, strict=False).fill_null(0),
    ).drop("parts")  # fmt: skip
    literal = marked.join(
        destinations, left_on=["system", "bare"], right_on=["system", "destination"]
    ).with_columns(destination="bare")
    columns = [*marked.columns, "destination"]
    found = [literal.select(columns)]
    found.append(_of_exchanges(marked, destinations).select(columns))
    for row in marked.filter(~pl.col("exactly")).iter_rows(named=True):
        prefix, expression = (
            (row["prefix"], row["expression"]) if row["declared"] else wildcards(row["system"], row["bare"])
        )
        if not expression:
            continue
        hit = destinations.filter(
            (pl.col("system") == row["system"])
            & (pl.col("destination") != row["bare"])
            & _words_match(prefix, expression)
        )
        if not hit.is_empty():
            found.append(
                hit.select(
                    *(pl.lit(row[name], marked.schema[name]).alias(name) for name in marked.columns),
                    "destination",
                )
            )
    return pl.concat(found)


def _said(word: str) -> pl.Expr:
    """What a mark before a pattern says after this word; null where there is none."""
    marks = pl.when(~pl.col("declared")).then(pl.col("parts").list.slice(0, pl.col("parts").list.len() - 1))
    own = pl.element().filter(pl.element().str.starts_with(f"{word} "))
    return marks.list.eval(own).list.first().str.slice(len(word) + 1)


def _of_exchanges(patterns: pl.DataFrame, destinations: pl.DataFrame) -> pl.DataFrame:
    """Where an exchange may be all that a sender tells, without a routing key: whatever leads from there may be meant."""
    bare = destinations.filter(
        (pl.col("system") == "rabbitmq") & ~pl.col("destination").str.contains(":", literal=True)
    )
    of_exchanges = patterns.filter(~pl.col("declared") & pl.col("bare").str.contains(":", literal=True))
    return (
        of_exchanges.join(bare, on="system")
        .filter(pl.col("bare").str.starts_with(pl.concat_str("destination", pl.lit(":"))))
        .with_columns(maybe=pl.lit(value=True))
    )


def _words_match(prefix: str, expression: str) -> pl.Expr:
    rest = pl.col("destination").str.slice(len(prefix))
    # No routing key is no word, not an empty one.
    words = pl.when(rest == "").then(pl.lit("")).otherwise(pl.concat_str(pl.lit("."), rest))
    return pl.col("destination").str.starts_with(prefix) & words.str.contains(expression)


@lru_cache(maxsize=10_000)
def wildcards(system: str, pattern: str) -> tuple[str, str]:
    """Return what a destination begins with, and a regular expression of the words after it; '' where there are no wildcards.

    NATS: `*` one word, `>` one or more at the end. AMQP: `*` one word, `#` any number, after `exchange:` (whose name may have
    colons of its own: the words that matter begin at the last one before the first wildcard).
    """
    if system == "nats":
        words = pattern.split(".")
        if "*" in words or words[-1] == ">":
            return "", _expression(words, {"*": r"\.[^.]+", ">": r"(\.[^.]+)+"})
    if system == "rabbitmq" and (found := _AMQP_PREFIX.match(pattern)):
        words = pattern[len(found[1]) :].split(".")
        return found[1], _expression(words, {"*": r"\.[^.]*", "#": r"(\.[^.]*)*"})
    return "", ""


def _expression(words: list[str], wild: Mapping[str, str]) -> str:
    return "^" + "".join(wild.get(word) or rf"\.{_quoted(word)}" for word in words) + "$"


def _quoted(word: str) -> str:
    # Python quotes more than Rust's expressions allow to be quoted (a blank, letters beyond ASCII are left alone by both).
    return re.sub(r"([\\.+*?()|\[\]{}^$#&\-~])", r"\\\1", word)
