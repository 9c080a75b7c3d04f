"""What services showed of every message: its sender's side, and one side per receiver."""

from collections.abc import Mapping
from typing import Final

import polars as pl

from hopwatch_collector.judge.clocks import corrected, with_offset
from hopwatch_collector.judge.frames import SIDE_KEY

OUTCOMES: Final = ("", "sent", "unconfirmed", "returned", "refused", "duplicate", "confirmed")
SETTLEMENTS: Final = ("", "none", "auto", "commit", "nack", "requeue", "reject", "term", "ack")
_NO_ID: Final = bytes(16)

_attempted: Final = pl.col("attempt") > 0
_ended_well: Final = _attempted & ~pl.col("failed") & (pl.col("ended_at") > 0)
_placed: Final = pl.col("offset") >= 0
_acknowledged: Final = _ended_well & pl.col("settle").is_in(["ack", "auto", ""])
"""Not everyone reports settlement: of such a receiver all that can be known is that it ended without error."""


def _last_told(name: str) -> pl.Expr:
    told = pl.col(name).filter(pl.col(name) != "")
    return pl.coalesce(pl.col(name).filter(_placed & (pl.col(name) != "")).last(), told.last(), pl.lit(""))


def sides(facts: pl.DataFrame, offsets: Mapping[int, int]) -> pl.DataFrame:
    """Return one row per message and receiver ('': the sender) of what was seen there."""
    told = with_offset(facts, offsets).with_columns(
        started_at=corrected("started_at"),
        ended_at=corrected("ended_at"),
        settle=pl.col("settle").replace_strict(list(range(9)), list(SETTLEMENTS), return_dtype=pl.String),
    )
    # The last attempt comes last; the hop decides between what is told of the same moment.
    ordered = told.sort("message", "receiver", "attempt", "started_at", "hop")
    result = ordered.group_by(SIDE_KEY, maintain_order=True).agg(
        first_at=pl.col("started_at").min(),
        off_us=pl.col("off_us").sort_by("dead", "started_at", "hop").first(),
        confirmed_at=pl.col("ended_at").max(),
        call=pl.col("call").any(),
        system=pl.col("system").max(),
        destination=_last_told("destination"),
        service=pl.col("service").max(),
        peer=pl.col("peer").max(),
        trace_id=pl.col("trace_id").max(),
        flow=pl.col("flow").max(),
        outcome=pl.col("outcome").max(),
        # A place is told as a whole: of several the last one that names an offset, else the last that names any part of it.
        broker=_last_told("broker"),
        partition=_last_told("partition"),
        offset=pl.col("offset").filter(_placed).last().fill_null(-1),
        conversation=pl.col("conversation").max(),
        attempts=pl.max_horizontal(pl.col("attempt").max(), _attempted.sum().cast(pl.Int64)),
        received_at=pl.col("started_at").filter(_attempted).min().fill_null(0),
        last_started_at=pl.col("started_at").last(),
        last_ended_at=pl.col("ended_at").last(),
        last_settle=pl.col("settle").last(),
        last_failed=pl.col("failed").last(),
        last_error=pl.col("error").last(),
        last_reason=pl.col("reason").last(),
        pending=pl.col("pending").last(),
        acknowledged=_acknowledged.any(),
        acknowledged_by=pl.col("settle").filter(_acknowledged & (pl.col("settle") != "")).max().fill_null(""),
        acknowledged_at=pl.col("ended_at").filter(_acknowledged).min().fill_null(0),
        processed=_ended_well.any(),
        dead=pl.col("dead").any(),
        dead_reason=pl.col("reason").filter(pl.col("dead")).max().fill_null(""),
        dead_at=pl.col("started_at").filter(pl.col("dead")).min().fill_null(0),
        day=pl.col("day").min(),
    )
    return result.with_columns(
        outcome=pl.col("outcome").replace_strict(range(7), OUTCOMES, return_dtype=pl.String)
    )


def messages(found: pl.DataFrame) -> pl.DataFrame:
    """Return one row per message: what its sender saw, completed by what receivers saw where the sender was not seen."""
    is_sender = pl.col("receiver") == ""

    def sender(name: str) -> pl.Expr:
        return pl.col(name).filter(is_sender).first()

    def as_sent(name: str) -> pl.Expr:
        """Whether a side says the same as the sender, or one of them says nothing."""
        sent = sender(name).fill_null("")
        return (sent == "") | (pl.col(name) == "") | (pl.col(name) == sent)

    # A copy at another broker or topic has a place of its own.
    there = (
        _placed
        & as_sent("broker")
        & as_sent("system")
        & (as_sent("destination") | (pl.col("system") != "kafka"))
    )

    def place(name: str) -> pl.Expr:
        """Where the sender put it; where it does not tell, where receivers took it from."""
        return pl.coalesce(
            pl.col(name).filter(is_sender & _placed).first(), pl.col(name).filter(there).first()
        )

    whole = found.group_by("message", maintain_order=True).agg(
        sender_seen=is_sender.any(),
        receiver_seen=(~is_sender & (pl.col("attempts") > 0)).any(),
        sent_at=sender("first_at").fill_null(0),
        confirmed_at=sender("confirmed_at").fill_null(0),
        sender_off_us=sender("off_us").fill_null(0),
        first_at=pl.col("first_at").min(),
        call=pl.col("call").any(),
        # Told while it was open: its answer had begun.
        streaming=(pl.col("call") & (pl.col("outcome") == "sent")).any(),
        system=pl.when(pl.col("call").any())
        .then(pl.col("system").max())
        .otherwise(pl.coalesce(sender("system"), pl.col("system").max())),
        broker=pl.coalesce(
            pl.col("broker").filter(is_sender & (pl.col("broker") != "")).first(), pl.col("broker").max()
        ),
        sender_says=sender("destination").fill_null(""),
        receiver_says=pl.col("destination").filter(~is_sender).max().fill_null(""),
        producer=sender("service").fill_null(""),
        peer=sender("peer").fill_null(""),
        any_trace=pl.col("trace_id").max(),
        sender_trace=sender("trace_id"),
        other_flow=pl.col("flow").max(),
        outcome=sender("outcome").fill_null(""),
        publish_reason=sender("last_reason").fill_null(""),
        publish_error=sender("last_error").fill_null(""),
        publish_failed=sender("last_failed").fill_null(value=False),
        partition=pl.coalesce(place("partition"), pl.col("partition").max()),
        offset=place("offset").fill_null(-1),
        conversation=pl.col("conversation").max(),
        day=pl.col("day").min(),
    )
    # The callee knows the route; of a broker's message the sender knows best where it sent it.
    receiver_knows = (pl.col("call") & (pl.col("receiver_says") != "")) | (pl.col("sender_says") == "")
    trace = pl.coalesce("sender_trace", "any_trace")
    return whole.with_columns(
        destination=pl.when(receiver_knows).then("receiver_says").otherwise("sender_says"),
        trace_id=trace,
        flow=pl.when(pl.col("other_flow") == _NO_ID).then(trace).otherwise("other_flow"),
    ).drop("sender_says", "receiver_says", "any_trace", "sender_trace", "other_flow")


def keys(facts: pl.DataFrame) -> pl.DataFrame:
    """Return the business keys of those messages that have some, sorted."""
    return (
        facts.select("message", "keys")
        .filter(pl.col("keys").list.len() > 0)
        .explode("keys")
        .unique()
        .sort("message", "keys")
        .group_by("message", maintain_order=True)
        .agg("keys")
    )
