"""Whether silence says something: did everybody tell what they did who may have taken a message?

A process tells that it is there every 15 s, and what it did to a message sooner or later. So it is covered at a moment if it has
told something from before and something from after. One that went silent without saying so may have taken messages it never told
of; one that samples, or lost spans, did not tell all of it.
"""

from typing import Final

import polars as pl

from hopwatch_collector.judge.clocks import corrected, with_offset
from hopwatch_collector.judge.evidence import Evidence
from hopwatch_collector.judge.frames import SECOND

HELD: Final = 50 * SECOND
"""Whoever has told nothing for so long, three times as long as reports are apart, is silent."""
AGAIN: Final = 5 * SECOND
"""So long after a look at what is not covered yet, it is looked at again."""
_ALIVE: Final = 20 * SECOND
"""A process that went silent may have taken messages for so long after it last told something."""
_SLACK: Final = SECOND
_LOOK: Final = 12 * SECOND
"""A look follows the one before after so long at most, unless it took very long itself."""
_RECEIVER: Final = ["system", "broker", "receiver"]
_PLACE: Final = ["topic", "partition", "incarnation"]
_WHO: Final = [*_RECEIVER, "resource"]


def with_coverage(pairs: pl.DataFrame, evidence: Evidence, now: int) -> pl.DataFrame:
    """Add whether the receiver was covered when it would have taken the message (`tells`), may yet turn out to have been
    (`coverage_pending`), or was not as far as it ought to have been (`coverage_gap`).
    """
    windows = _windows(pairs)
    spells = _spells(evidence)
    said = (
        windows.join(spells, on=_RECEIVER)
        .with_columns(
            covers=(pl.col("begins") <= pl.col("after") + _SLACK) & (pl.col("ends") >= pl.col("before")) & ~pl.col("part"),
            # It was there, or may have been, and has told nothing since.
            silent=(pl.col("begins") <= pl.col("before"))
            & (pl.col("ends") < pl.col("before"))
            & (pl.col("ends") >= pl.col("after") - _ALIVE)
            & (pl.col("sent_at") <= pl.col("ends") + _ALIVE)
            & ~pl.col("left"),
            overlaps=(pl.col("begins") <= pl.col("before")) & (pl.col("ends") >= pl.col("after") - _ALIVE),
        )
        .with_columns(
            gone=pl.col("silent") & (pl.col("ends") + HELD < now),
            lossy=pl.col("overlaps") & (pl.col("lost_from") <= pl.col("before")) & (pl.col("lost_until") >= pl.col("after")),
            partly=pl.col("overlaps") & pl.col("part"),
        )
        .group_by("pair")
        .agg(
            covered=pl.col("covers").any(),
            gap=(pl.col("gone") | pl.col("lossy") | pl.col("partly")).any(),
            awaited=(pl.col("silent") & ~pl.col("gone")).any(),
        )
    )  # fmt: skip
    return (
        pairs.join(said, on="pair", how="left", maintain_order="left")
        .join(_strangers(windows, evidence, now), on="pair", how="left", maintain_order="left")
        .with_columns(pl.col("covered", "gap", "awaited", "strangers", "just_now").fill_null(value=False))
        .with_columns(
            tells=pl.col("covered")
            & ~(pl.col("gap") | pl.col("awaited") | pl.col("strangers"))
            # Of a message that its sender does not tell of, consumers tell under another name.
            & ~(pl.col("sender_seen") & (pl.col("producer") == "")),
            coverage_gap=pl.col("gap"),
            coverage_pending=(pl.col("awaited") | (pl.col("strangers") & pl.col("just_now")))
            & ~pl.col("gap"),
        )
        .drop("covered", "gap", "awaited", "strangers", "just_now")
    )


def with_foreign_readers(pairs: pl.DataFrame, readers: pl.DataFrame) -> pl.DataFrame:
    """Add whether the message may have been received by somebody of whom another instrumentation tells, and perhaps not all
    (`partly_told`): of its silence nothing follows.
    """
    if readers.is_empty():
        return pairs.with_columns(partly_told=pl.lit(value=False))
    # Which queue is read is often not told, nor the routing key.
    meant = (
        (pl.col("receiver") == "")
        | (pl.col("reader") == pl.col("receiver"))
        | (pl.col("system") == "rabbitmq")
    )
    exchange = pl.concat_str("read_from", pl.lit(":"))
    from_there = (pl.col("read_from") == pl.col("destination")) | (
        (pl.col("system") == "rabbitmq") & pl.col("destination").str.starts_with(exchange)
    )
    known = readers.rename({"receiver": "reader", "destination": "read_from", "broker": "read_at"})
    told = (
        pairs.select("pair", "system", "broker", "destination", "receiver")
        .join(known, on="system")
        .filter(from_there & meant & ((pl.col("read_at") == pl.col("broker")) | (pl.col("read_at") == "")))
        .select("pair", partly_told=pl.lit(value=True))
        .unique()
    )
    return pairs.join(told, on="pair", how="left", maintain_order="left").with_columns(
        pl.col("partly_told").fill_null(value=False)
    )


def _strangers(windows: pl.DataFrame, evidence: Evidence, now: int) -> pl.DataFrame:
    """Which pairs' group or queue had more readers than told of themselves: one beside them takes what nobody tells of.

    Who read then counts, not who does by now. Of what was passed just now (`just_now`), one that has only joined may still
    tell that it is there.
    """
    by = [*_RECEIVER, *_PLACE]
    crowds = evidence.standing.crowds.rename({"destination": "topic"})
    # A look shows a little later who has come.
    then = (pl.col("at") <= pl.col("before") + _LOOK) & (pl.col("until") > pl.col("after"))
    crowded = windows.select("pair", *by, "after", "before").join(crowds, on=by).filter(then)
    # Whoever declares a queue tells of it, and need not read it.
    reads = (pl.col("system") == "kafka") | pl.col("reads").any().over(_WHO)
    members = with_offset(evidence.coverage, evidence.clock_offsets).filter((pl.col("member") != "") & reads)
    near = (pl.col("begins") <= pl.min_horizontal("until", "before") + HELD) & (
        pl.col("ends") >= pl.max_horizontal("at", "after") - HELD
    )
    # Where nobody says as whom the broker lists it, there is nothing to compare.
    return (
        crowded.join(
            members.select(*_RECEIVER, "member", begins=corrected("first_at"), ends=corrected("last_at")),
            on=_RECEIVER,
        )
        .filter(near)
        .group_by("pair", "at")
        .agg(pl.col("before", "consumers").first(), members=pl.col("member").n_unique())
        .group_by("pair")
        .agg(
            strangers=(pl.col("consumers") > pl.col("members")).any(),
            just_now=pl.col("before").first() + _ALIVE > now,
        )
    )


def _windows(pairs: pl.DataFrame) -> pl.DataFrame:
    """Between which moments somebody would have taken the message: when the receiver went past it, else since it was sent."""
    passed = (
        pl.when("committed_past")
        .then("passed_at")
        .when(pl.col("there_done") > pl.col("offset"))
        .then("read_at")
    )
    at = pl.when(pl.col("offset") >= 0).then(passed)
    # What settled it needs no silence.
    asked = ~pl.col("acknowledged") & ((pl.col("now_at") > 0) | pl.col("committed_past"))
    since = pl.when(pl.col("sent_at") > 0).then("sent_at").otherwise("first_at")
    return pairs.filter(asked).select(
        "pair",
        *_RECEIVER,
        *_PLACE,
        sent_at=since,
        after=pl.coalesce(at, since),
        before=pl.coalesce(at, pl.max_horizontal("now_at", since)),
    )


def _spells(evidence: Evidence) -> pl.DataFrame:
    """From when until when each process told, by the collector's clock, and what is to be held against its silence."""
    told = with_offset(evidence.coverage, evidence.clock_offsets).with_columns(
        begins=corrected("first_at"), ends=corrected("last_at"), left_at=corrected("left_at")
    )
    takes = pl.col("reads").any().over(_WHO)
    new = pl.col("begins") > pl.col("ends").cum_max().shift(1).over(_WHO) + HELD
    spells = (
        told.filter(takes)
        .sort(*_WHO, "begins")
        .with_columns(spell=new.fill_null(value=False).cum_sum().over(_WHO))
        .group_by(*_WHO, "spell", maintain_order=True)
        .agg(
            begins=pl.col("begins").min(),
            ends=pl.col("ends").max(),
            left=pl.col("left_at").max() >= pl.col("ends").max(),
            part=pl.col("part").any(),
        )
    )
    lost = with_offset(evidence.losses, evidence.clock_offsets).group_by("resource").agg(
        lost_from=corrected("since").min(), lost_until=corrected("until").max()
    )  # fmt: skip
    return spells.join(lost, on="resource", how="left").with_columns(
        pl.col("lost_from").fill_null(2**62), pl.col("lost_until").fill_null(0)
    )
