"""All pairs of a message and a receiver that there is anything to say about, with what entitles the receiver."""

from typing import Final

import polars as pl

from hopwatch_collector.judge.frames import SECOND

_PAIR: Final = ["message", "receiver"]
DELAYED_SEND: Final = r"^not before ([0-9.]+) s"
"""How a sender tells that the broker is asked to deliver its message later."""
_SENT: Final = [
    "message",
    "system",
    "broker",
    "destination",
    "partition",
    "offset",
    "sent_at",
    "confirmed_at",
]
_NOT_PUBLISHED: Final = ("returned", "refused", "duplicate")


def pairs(
    messages: pl.DataFrame,
    sides: pl.DataFrame,
    events: pl.DataFrame,
    entitlements: pl.DataFrame,
    copies: pl.DataFrame,
) -> pl.DataFrame:
    """Return receivers that were seen, and those owed a message because they were entitled to its destination when it was sent.

    A message that nobody is known to be owed has one pair without a receiver. Receivers entitled to where a copy lies are owed that.
    """
    known = _with_events(messages, events)
    titles = _titles(known, entitlements, copies)
    about = known.join(_summed_up(titles), on="message", how="left").with_columns(
        pl.col("has_plain", "has_valid", "has_expected", "has_maybe", "has_untold").fill_null(value=False)
    )
    went_to = _went_to(events)
    seen = sides.filter(pl.col("receiver") != "").select(_PAIR)
    named = pl.concat([seen, _unseen(about, titles, went_to)]).unique(maintain_order=True)
    nameless = about.join(named.select("message").unique(), on="message", how="anti").select(
        "message",
        receiver=pl.when(pl.col("call") & pl.col("outcome").is_in(["confirmed", "sent", ""]))
        .then("peer")
        .otherwise(pl.lit("")),
    )
    every = pl.concat([named, nameless]).join(about, on="message")
    return _with_titles(every, titles, went_to)


def _with_events(messages: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Add what was told of single messages: when they expire, whether the broker's firehose saw them, whether it routed them."""
    kind = pl.col("kind")
    seconds = pl.col("publish_reason").str.extract(DELAYED_SEND, 1).cast(pl.Float64, strict=False)
    told = events.group_by("message").agg(
        expires_at=(pl.col("at") + pl.col("number") * 1000).filter(kind == "ttl").min(),
        traced=(kind == "published").any(),
        was_routed=(kind == "routed").any(),
    )
    unconfirmed = (pl.col("outcome") == "unconfirmed") & ~pl.col("was_routed")
    return (
        messages.join(told, on="message", how="left")
        .with_columns(
            pl.col("expires_at").fill_null(0),
            pl.col("traced", "was_routed").fill_null(value=False),
            delay_us=(pl.min_horizontal(seconds.fill_null(0.0), pl.lit(1e9)) * 1000).cast(pl.Int64) * 1000,
        )
        .with_columns(
            # An exchange that delays has nowhere to route a message to until its delay is over, and says so.
            not_published=~pl.col("receiver_seen")
            & (
                (
                    pl.col("outcome").is_in(_NOT_PUBLISHED)
                    & ((pl.col("outcome") != "returned") | (pl.col("delay_us") == 0))
                )
                | unconfirmed
            )
        )
    )


def _went_to(events: pl.DataFrame) -> pl.DataFrame:
    """Where the broker says of the very message that it went, and when it handed it out."""
    handed = pl.col("at").filter(pl.col("kind") == "handed").sort()
    return (
        events.filter(pl.col("kind").is_in(["routed", "handed"]))
        .group_by(_PAIR)
        .agg(handed_at=handed)
        .with_columns(went_there=pl.lit(value=True))
    )


def _titles(messages: pl.DataFrame, entitlements: pl.DataFrame, copies: pl.DataFrame) -> pl.DataFrame:
    """Every entitlement that holds, or nearly held, when a message was sent."""
    wanted = messages.filter(pl.col("sender_seen") & ~pl.col("call") & (pl.col("destination") != ""))
    all_titles = (
        pl.concat([wanted.select(_SENT), copies.select(_SENT)])
        .join(entitlements, on=["system", "destination"], suffix="_of_title")
        .filter(pl.col("declared") | (pl.col("broker_of_title") == pl.col("broker")) | pl.col("any_broker"))
        .filter(
            (pl.col("part_of") == "")
            | (pl.col("partition") == "")
            | (pl.col("part_of") == pl.col("partition"))
        )
        .filter((pl.col("offset") < 0) | (pl.col("offset") >= pl.col("from_offset")))
    )
    began, ends = pl.col("from_at"), pl.col("until_at")
    in_time = pl.col("sent_at") <= ends
    return all_titles.with_columns(
        # Entitled when the broker took it, which is some time between the call and its answer.
        entitled=in_time & (pl.max_horizontal("sent_at", "confirmed_at") >= began),
        # Titles of then, whatever they are worth, and of a little later: brokers are not asked all the time.
        near=in_time & ~pl.col("declared") & (began <= pl.col("sent_at") + 30 * SECOND),
    ).filter(pl.col("entitled") | pl.col("near")).with_columns(
        plain=pl.col("entitled") & ~pl.col("otherwise") & ~pl.col("maybe") & ~pl.col("any_broker") & ~pl.col("declared"),
        expected=pl.col("entitled") & pl.col("declared"),
    ).with_columns(
        # What is for all else counts only where nothing plain does.
        valid=pl.when(pl.col("plain").any().over("message"))
        .then("plain")
        .otherwise(pl.col("entitled") & pl.col("otherwise") & ~pl.col("any_broker"))
    )  # fmt: skip


def _summed_up(titles: pl.DataFrame) -> pl.DataFrame:
    return titles.group_by("message").agg(
        has_plain=pl.col("plain").any(),
        has_valid=pl.col("valid").any(),
        has_expected=pl.col("expected").any(),
        has_maybe=(pl.col("entitled") & pl.col("maybe")).any(),
        has_untold=(pl.col("entitled") & pl.col("any_broker")).any(),
    )


def _unseen(about: pl.DataFrame, titles: pl.DataFrame, went_to: pl.DataFrame) -> pl.DataFrame:
    """Receivers owed a message, whether they were seen or not."""
    published = about.filter(~pl.col("not_published"))
    traced = published.filter("traced").select("message")
    by_titles = published.filter(~pl.col("traced") & pl.col("sender_seen")).select("message")
    expected = titles.filter("expected")
    valid = titles.filter("valid")
    # A NATS client that only the server knows of may be the plain subscriber that is declared.
    possibly = (
        valid.filter(pl.col("receiver").str.starts_with("client "))
        .select("message", "receiver", "bare")
        .join(expected.select("message", declared_as="receiver"), on="message")
        .filter(pl.col("declared_as").str.ends_with(pl.concat_str(pl.lit(":"), pl.col("bare"))))
        .select(_PAIR)
    )
    return pl.concat(
        [
            traced.join(expected, on="message").select(_PAIR),
            traced.join(went_to, on="message").select(_PAIR),
            by_titles.join(expected, on="message").select(_PAIR),
            by_titles.join(valid, on="message").select(_PAIR).join(possibly, on=_PAIR, how="anti"),
        ]
    ).unique(maintain_order=True)


def _with_titles(every: pl.DataFrame, titles: pl.DataFrame, went_to: pl.DataFrame) -> pl.DataFrame:
    """Add to each pair what entitles its receiver."""
    own = titles.group_by(_PAIR).agg(
        has_title=pl.col("valid").any(),
        has_durable_title=(pl.col("valid") & pl.col("durable")).any(),
        is_expected=pl.col("expected").any(),
        is_near=pl.col("near").any(),
        may_be_delayed=(pl.col("valid") & pl.col("delayed")).any(),
    )
    # A declared receiver may be a NATS client of the same subject that only the server knows.
    clients = titles.filter(pl.col("near") & pl.col("receiver").str.starts_with("client ")).select(
        "message", "bare"
    )
    expected = titles.filter("expected").select(_PAIR).unique()
    perhaps = (
        expected.join(clients, on="message")
        .filter(pl.col("receiver").str.ends_with(pl.concat_str(pl.lit(":"), pl.col("bare"))))
        .select(_PAIR)
        .unique()
        .with_columns(may_be_client=pl.lit(value=True))
    )
    flags = ["has_title", "has_durable_title", "is_expected", "is_near", "may_be_client", "went_there"]
    kept = [*flags, "may_be_delayed"]
    joined = (
        every.join(own, on=_PAIR, how="left")
        .join(perhaps, on=_PAIR, how="left")
        .join(went_to, on=_PAIR, how="left")
        .with_columns(pl.col(kept).fill_null(value=False))
    )
    traced = pl.col("traced")
    owed = pl.when(traced).then("went_there").otherwise("has_title")
    return joined.with_columns(
        owed=owed,
        kept=pl.when(traced).then("went_there").otherwise("has_durable_title"),
        maybe_owed=~pl.col("has_valid") & ~traced & pl.col("has_maybe"),
        maybe_subscribed=~traced & pl.col("has_untold"),
        declared=pl.when(~pl.col("is_expected"))
        .then(pl.lit(""))
        .when("has_title")
        .then(pl.lit("confirmed"))
        .when(pl.col("is_near") | pl.col("may_be_client"))
        .then(pl.lit("doubtful"))
        .otherwise(pl.lit("alone")),
    ).drop(
        *flags,
        "has_plain",
        "has_valid",
        "has_expected",
        "has_maybe",
        "has_untold",
        "was_routed",
        "receiver_seen",
    )
