"""What services showed of every message: its sender's side, and one side per receiver."""

from collections.abc import Mapping
from typing import Final

import polars as pl

from hopwatch_collector.judge.clocks import corrected, with_offset
from hopwatch_collector.judge.frames import FACT_KEY, SIDE_KEY

OUTCOMES: Final = ("", "sent", "unconfirmed", "returned", "refused", "duplicate", "confirmed")
SETTLEMENTS: Final = ("", "none", "auto", "commit", "nack", "requeue", "reject", "term", "ack")
ENDINGS: Final = (
    "dropped by its client",
    "fetched in a batch and not begun",
    "handed on within its process",
    "its loop was left at it",
)
"""Words of a receiver for how an attempt ended that it does not claim to have processed (hopwatch.conventions.Ending)."""
NOTHING_DUE: Final = "; no acknowledgement is due"
_NO_ID: Final = bytes(16)
_NO_HOP: Final = bytes(8)

_attempted: Final = pl.col("attempt") > 0
_ended_well: Final = _attempted & ~pl.col("failed") & (pl.col("ended_at") > 0)
_placed: Final = pl.col("offset") >= 0
_let_go: Final = (pl.col("settle") == "none") & pl.any_horizontal(
    pl.col("reason").str.starts_with(ending) for ending in ENDINGS
)
_acknowledged: Final = _ended_well & pl.col("settle").is_in(["ack", "auto", ""])
"""Not everyone reports settlement: of such a receiver all that can be known is that it ended without error."""


_PARTS_OF_PLACE: Final = ("destination", "broker", "partition")


def _marked(facts: pl.DataFrame) -> pl.DataFrame:
    """Add what facts say under a condition, null where that does not hold: to filter inside each group takes several times as long."""
    acknowledged = pl.when(_acknowledged)
    dead = pl.when("dead")
    return facts.with_columns(
        attempted=_attempted,
        attempted_at=pl.when(_attempted).then("started_at"),
        placed_offset=pl.when(_placed).then("offset"),
        acknowledged=_acknowledged,
        acknowledged_by=pl.when(_acknowledged & (pl.col("settle") != "")).then("settle"),
        acknowledged_at=acknowledged.then("ended_at"),
        processed=_ended_well & ~_let_go,
        dead_reason=dead.then("reason"),
        dead_at=dead.then("started_at"),
        **{f"told_{name}": pl.when(pl.col(name) != "").then(name) for name in _PARTS_OF_PLACE},
        **{f"placed_{name}": pl.when(_placed & (pl.col(name) != "")).then(name) for name in _PARTS_OF_PLACE},
    )


def _last_told(name: str) -> pl.Expr:
    """A place is told as a whole: of several the last one that names an offset, else the last that names any part of it."""
    placed, told = (pl.col(f"{kind}_{name}").last(ignore_nulls=True) for kind in ("placed", "told"))
    return pl.coalesce(placed, told, pl.lit(""))


def _without_doubles(facts: pl.DataFrame) -> pl.DataFrame:
    """Leave out what another instrumentation tells under the name of a service that tells of the same message itself.

    Frameworks have spans of their own around the handlers that our instrumentation of the client sees too.
    """
    foreign = (
        _attempted & ~pl.col("call") & (pl.col("hop") == _NO_HOP) & (pl.col("receiver") == pl.col("service"))
    )
    doubtful = facts.select(foreign).to_series()
    if not doubtful.any():
        return facts
    own = facts.filter(_attempted & (pl.col("hop") != _NO_HOP)).select("message", "service").unique()
    doubles = facts.filter(doubtful).join(own, on=["message", "service"]).select(FACT_KEY)
    return facts.join(doubles, on=FACT_KEY, how="anti", maintain_order="left")


def sides(facts: pl.DataFrame, offsets: Mapping[int, int]) -> pl.DataFrame:
    """Return one row per message and receiver ('': the sender) of what was seen there."""
    told = with_offset(_without_doubles(facts), offsets).with_columns(
        started_at=corrected("started_at"),
        ended_at=corrected("ended_at"),
        settle=pl.col("settle").replace_strict(list(range(9)), list(SETTLEMENTS), return_dtype=pl.String),
    )
    # The last attempt comes last; the hop decides between what is told of the same moment.
    ordered = _marked(told.sort("message", "receiver", "attempt", "started_at", "hop"))
    off = pl.col("off_us")
    result = ordered.group_by(SIDE_KEY, maintain_order=True).agg(
        first_at=pl.col("started_at").min(),
        off_us=off.sort_by("dead", "started_at", "hop").first() if offsets else off.first(),
        confirmed_at=pl.col("ended_at").max(),
        call=pl.col("call").any(),
        system=pl.col("system").max(),
        destination=_last_told("destination"),
        service=pl.col("service").max(),
        peer=pl.col("peer").max(),
        trace_id=pl.col("trace_id").max(),
        flow=pl.col("flow").max(),
        outcome=pl.col("outcome").max(),
        broker=_last_told("broker"),
        partition=_last_told("partition"),
        offset=pl.col("placed_offset").last(ignore_nulls=True).fill_null(-1),
        conversation=pl.col("conversation").max(),
        attempts=pl.max_horizontal(pl.col("attempt").max(), pl.col("attempted").sum().cast(pl.Int64)),
        received_at=pl.col("attempted_at").min().fill_null(0),
        last_started_at=pl.col("started_at").last(),
        last_ended_at=pl.col("ended_at").last(),
        last_settle=pl.col("settle").last(),
        last_failed=pl.col("failed").last(),
        last_error=pl.col("error").last(),
        last_reason=pl.col("reason").last(),
        pending=pl.col("pending").last(),
        acknowledged=pl.col("acknowledged").any(),
        acknowledged_by=pl.col("acknowledged_by").max().fill_null(""),
        acknowledged_at=pl.col("acknowledged_at").min().fill_null(0),
        processed=pl.col("processed").any(),
        dead=pl.col("dead").any(),
        dead_reason=pl.col("dead_reason").max().fill_null(""),
        dead_at=pl.col("dead_at").min().fill_null(0),
        # Some of several spans may tell more than others.
        unnamed=pl.col("unnamed").all(),
        day=pl.col("day").min(),
    )
    return result.with_columns(
        outcome=pl.col("outcome").replace_strict(range(7), OUTCOMES, return_dtype=pl.String)
    )


_SENDER: Final = {
    "first_at": "sent_at",
    "confirmed_at": "confirmed_at",
    "off_us": "sender_off_us",
    "system": "sent_by",
    "broker": "sent_to",
    "destination": "sender_says",
    "service": "producer",
    "peer": "peer",
    "trace_id": "sender_trace",
    "outcome": "outcome",
    "last_reason": "publish_reason",
    "last_error": "publish_error",
    "last_failed": "publish_failed",
}


def messages(found: pl.DataFrame) -> pl.DataFrame:
    """Return one row per message: what its sender saw, completed by what receivers saw where the sender was not seen."""
    is_sender = pl.col("receiver") == ""
    senders = found.filter(is_sender).select(
        "message", *(pl.col(name).alias(own) for name, own in _SENDER.items())
    )

    def as_sent(name: str) -> pl.Expr:
        """Whether a side says the same as the sender, or one of them says nothing."""
        sent = pl.col(_SENDER[name]).fill_null("")
        return (sent == "") | (pl.col(name) == "") | (pl.col(name) == sent)

    # A copy at another broker or topic has a place of its own. (The sender's side comes first.)
    there = (
        _placed
        & as_sent("broker")
        & as_sent("system")
        & (as_sent("destination") | (pl.col("system") != "kafka"))
    )
    beside = found.join(
        senders.select("message", "sent_by", "sent_to", "sender_says"), on="message", how="left", maintain_order="left"
    )  # fmt: skip
    whole = (
        beside.select(
            "message", "first_at", "call", "system", "broker", "trace_id", "flow", "partition", "conversation", "day",
            is_sender=is_sender,
            receives=~is_sender & (pl.col("attempts") > 0),
            # Told while it was open: its answer had begun.
            streams=pl.col("call") & (pl.col("outcome") == "sent"),
            receiver_says=pl.when(~is_sender).then("destination"),
            there_partition=pl.when(there).then("partition"),
            there_offset=pl.when(there).then("offset"),
        )
        .group_by("message", maintain_order=True)
        .agg(
            sender_seen=pl.col("is_sender").any(),
            receiver_seen=pl.col("receives").any(),
            first_at=pl.col("first_at").min(),
            call=pl.col("call").any(),
            streaming=pl.col("streams").any(),
            any_system=pl.col("system").max(),
            any_broker=pl.col("broker").max(),
            receiver_says=pl.col("receiver_says").max(),
            any_trace=pl.col("trace_id").max(),
            other_flow=pl.col("flow").max(),
            there_partition=pl.col("there_partition").first(ignore_nulls=True),
            any_partition=pl.col("partition").max(),
            offset=pl.col("there_offset").first(ignore_nulls=True),
            conversation=pl.col("conversation").max(),
            day=pl.col("day").min(),
        )
        .join(senders, on="message", how="left", maintain_order="left")
    )  # fmt: skip
    texts = (
        "sender_says",
        "receiver_says",
        "producer",
        "peer",
        "outcome",
        "publish_reason",
        "publish_error",
        "sent_to",
    )
    whole = whole.with_columns(
        pl.col("sent_at", "confirmed_at", "sender_off_us").fill_null(0),
        pl.col(texts).fill_null(""),
        pl.col("publish_failed").fill_null(value=False),
        pl.col("offset").fill_null(-1),
        partition=pl.coalesce("there_partition", "any_partition"),
    )
    # The callee knows the route; of a broker's message the sender knows best where it sent it.
    receiver_knows = (pl.col("call") & (pl.col("receiver_says") != "")) | (pl.col("sender_says") == "")
    trace = pl.coalesce("sender_trace", "any_trace")
    return whole.with_columns(
        system=pl.when("call").then("any_system").otherwise(pl.coalesce("sent_by", "any_system")),
        broker=pl.when(pl.col("sent_to") != "").then("sent_to").otherwise("any_broker"),
        destination=pl.when(receiver_knows).then("receiver_says").otherwise("sender_says"),
        trace_id=trace,
        flow=pl.when(pl.col("other_flow") == _NO_ID).then(trace).otherwise("other_flow"),
    ).drop(
        "sender_says", "receiver_says", "any_trace", "sender_trace", "other_flow", "sent_by", "sent_to", "any_system", "any_broker",
        "there_partition", "any_partition",
    )  # fmt: skip


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
