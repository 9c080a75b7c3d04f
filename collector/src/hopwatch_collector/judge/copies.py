"""Copies of a message at other places than where it was sent: somebody made them and passed its headers on.

A copy is known by whoever received it. Others that are owed what comes to that place are owed it too, though they show no sign of it
yet: a group that stands still, a queue that nobody reads.
"""

from typing import Final

import polars as pl
import polars.selectors as cs

from hopwatch_collector.judge.brokers import SYSTEMS

_PLACE: Final = ["system", "broker", "destination", "partition", "offset"]

_c = pl.col


def copies(sides: pl.DataFrame, messages: pl.DataFrame) -> pl.DataFrame:
    """Return the places of copies that somebody received, and since when each was there at the latest (`sent_at`)."""
    sent = messages.filter("sender_seen").select(
        "message", sent_by="system", sent_through="broker", sent_to="destination"
    )
    elsewhere = (
        (_c("system") != _c("sent_by"))
        | ((_c("broker") != _c("sent_through")) & (_c("broker") != "") & (_c("sent_through") != ""))
        | ((_c("system") == "kafka") & (_c("destination") != _c("sent_to")))
    )
    received = (_c("receiver") != "") & (_c("attempts") > 0) & ~_c("call")
    return (
        sides.filter(received & _c("system").is_in(SYSTEMS) & (_c("destination") != ""))
        .join(sent, on="message")
        .filter(elsewhere)
        .group_by("message", *_PLACE, maintain_order=True)
        .agg(sent_at=_c("received_at").min())
        .with_columns(confirmed_at="sent_at")
    )


def with_unread(sides: pl.DataFrame, found: pl.DataFrame, entitlements: pl.DataFrame) -> pl.DataFrame:
    """Add a side for each receiver that is owed a copy and has shown no sign of it: where the copy lies, and nothing else."""
    titles = entitlements.filter(~_c("declared") & ~_c("otherwise") & ~_c("maybe") & ~_c("any_broker"))
    owed = (
        found.join(titles.rename({"broker": "its_broker"}), on=["system", "destination"])
        .filter(
            (_c("its_broker") == _c("broker"))
            & (_c("from_at") <= _c("sent_at"))
            & (_c("until_at") >= _c("sent_at"))
            & ((_c("part_of") == "") | (_c("partition") == "") | (_c("part_of") == _c("partition")))
            & ((_c("offset") < 0) | (_c("offset") >= _c("from_offset")))
        )
        .unique(["message", "receiver"], maintain_order=True)
        .join(sides.select("message", "receiver"), on=["message", "receiver"], how="anti")
        .join(
            sides.group_by("message").agg(_c("day").min(), _c("flow").max(), _c("trace_id").max()),
            on="message",
        )
    )
    unread = owed.select(
        "message", "receiver", *_PLACE, "day", "flow", "trace_id", first_at="sent_at", confirmed_at="sent_at",
    )  # fmt: skip
    blank = pl.concat([sides.clear(), unread], how="diagonal").with_columns(
        _c("pending").fill_null(-1),
        cs.string().fill_null(""),
        cs.binary().fill_null(b""),
        cs.boolean().fill_null(value=False),
    )
    return pl.concat([sides, blank.with_columns((cs.numeric() - cs.by_name("pending")).fill_null(0))])
