"""Receivers by their own names, where only their services are told.

Many instrumentations tell which service received a message, and not from which queue, by which group or as which consumer. Whoever is
owed it has such a name: of one that can have been meant, what the service did is its word; of several each is.
"""

from dataclasses import dataclass
from typing import Final

import polars as pl

from hopwatch_collector.judge.frames import SECOND, SIDE_KEY

_LATE: Final = 30 * SECOND
"""A receiver may be seen so long after it began to take messages: brokers are not asked all the time."""
_PLAIN, _LATER, _PERHAPS = 0, 1, 2
"""How likely a receiver is meant: it was owed the message; it came before the message was received; or that depends on more."""

_c = pl.col


@dataclass(frozen=True, slots=True)
class Named:
    """The facts of some messages, each with the name of its receiver as far as that can be known."""

    facts: pl.DataFrame
    """Without those that may be of any of several receivers."""
    among: pl.DataFrame
    """Which receivers (`message`, `receiver`) those may be of."""


def named(
    facts: pl.DataFrame, sides: pl.DataFrame, messages: pl.DataFrame, entitlements: pl.DataFrame
) -> Named:
    """Return the facts by the names of receivers that can have been meant, of which `sides` and `messages` were made."""
    candidates = _candidates(places(sides, messages), entitlements, sides)
    one = candidates.filter(_c("choices") == 1).select(*SIDE_KEY, "candidate", consumer=_c("service"))
    several = candidates.filter(_c("choices") > 1)
    everyone = _everyone(several, sides)
    names = pl.concat([one, everyone])
    unsure = several.filter(_c("likely") == _PLAIN).join(everyone, on=SIDE_KEY, how="anti")
    renamed = (
        facts.filter("unnamed")
        .join(names, on=SIDE_KEY)
        .with_columns(receiver="candidate", service="consumer")
        .select(facts.columns)
    )
    left = facts.join(
        pl.concat([names.select(SIDE_KEY), unsure.select(SIDE_KEY)]).unique(), on=SIDE_KEY, how="anti"
    )
    among = unsure.select("message", receiver="candidate").unique(maintain_order=True)
    return Named(pl.concat([left, renamed]), among)


def places(sides: pl.DataFrame, messages: pl.DataFrame) -> pl.DataFrame:
    """Return where, and when, each receiver whose name was not told got its message: by what the sender says, unless it was a copy."""
    sent = messages.select(
        "message", "sender_seen", "sent_at", "confirmed_at",
        sent_by="system", sent_to="destination", sender_broker="broker",
    )  # fmt: skip
    here = (
        _c("sender_seen")
        & (_c("system") == _c("sent_by"))
        & ((_c("system") != "kafka") | (_c("destination") == "") | (_c("destination") == _c("sent_to")))
    )
    return (
        sides.filter("unnamed")
        .select(*SIDE_KEY, "system", "broker", "destination", "service", got_at="first_at")
        .join(sent, on="message", maintain_order="left")
        .with_columns(
            destination=pl.when(here).then("sent_to").otherwise("destination"),
            broker=pl.when(here & (_c("broker") == "")).then("sender_broker").otherwise("broker"),
            from_at=pl.when(here).then(pl.max_horizontal("sent_at", "confirmed_at")).otherwise("got_at"),
            until_at=pl.when(here).then("sent_at").otherwise("got_at"),
        )
        .select(*SIDE_KEY, "system", "broker", "destination", "service", "got_at", owed_from="from_at", owed_until="until_at")
    )  # fmt: skip


def _candidates(found: pl.DataFrame, entitlements: pl.DataFrame, sides: pl.DataFrame) -> pl.DataFrame:
    """Return who can have been meant by each of them, the likeliest alone, and how many these are (`choices`)."""
    owed = (
        found.join(
            entitlements.filter(~_c("declared")).rename({"receiver": "candidate", "broker": "its_broker"}),
            on=["system", "destination"],
        )
        .filter((_c("its_broker") == _c("broker")) | (_c("broker") == "") | _c("any_broker"))
        .filter((_c("owed_until") <= _c("until_at")) & (_c("from_at") <= _c("got_at") + _LATE))
        .with_columns(
            likely=pl.when(_c("otherwise") | _c("maybe"))
            .then(_PERHAPS)
            .when(_c("owed_from") >= _c("from_at"))
            .then(_PLAIN)
            .otherwise(_LATER),
            own_name=_c("candidate") == _c("receiver"),
        )
        .filter(_c("own_name") | ~_tells_itself())
    )
    # Who tells of this message itself is not meant, unless there is nobody else.
    themselves = sides.filter((_c("receiver") != "") & ~_c("unnamed")).select(
        "message", candidate="receiver", tells=pl.lit(value=True)
    )
    by_side = pl.struct(SIDE_KEY)
    return (
        owed.join(themselves, on=["message", "candidate"], how="left")
        .with_columns(_c("tells").fill_null(value=False))
        .group_by(*SIDE_KEY, "candidate", "service", "own_name", "tells")
        .agg(likely=_c("likely").min())
        .filter(_c("own_name") | ~_c("own_name").any().over(by_side))
        .filter(~_c("tells") | _c("tells").all().over(by_side))
        .filter(_c("likely") == _c("likely").min().over(by_side))
        .with_columns(choices=_c("candidate").n_unique().over(by_side))
        .sort(*SIDE_KEY, "candidate")
    )


def _tells_itself() -> pl.Expr:
    """Whether a receiver would tell of the message under its own name, or may be one of others that nobody has told of.

    Services report what they read themselves; of queues also those that others read. What else is bound to an exchange only the
    broker knows.
    """
    claim = [*SIDE_KEY, "candidate"]
    only_services = _c("by_service").all().over(claim) & (_c("candidate") != _c("destination"))
    return (
        pl.when(_c("system") == "rabbitmq").then(only_services).otherwise(_c("by_service").any().over(claim))
    )


def _everyone(several: pl.DataFrame, sides: pl.DataFrame) -> pl.DataFrame:
    """Where as many services processed a message as there are receivers, each receiver's was; by whom is not known."""
    ended = sides.select(*SIDE_KEY, done=_c("processed") & ~_c("last_failed"))
    whole = (
        several.join(ended, on=SIDE_KEY)
        .with_columns(
            services=_c("receiver").n_unique().over("message"),
            receivers=_c("candidate").n_unique().over("message"),
            all_done=_c("done").all().over("message"),
        )
        .filter(_c("all_done") & (_c("choices") == _c("receivers")) & (_c("services") >= _c("receivers")))
        .with_columns(
            nth=_c("receiver").rank("dense").over("message") - 1,
            place=_c("candidate").rank("dense").over("message") - 1,
        )
    )
    return whole.filter(_c("nth") % _c("receivers") == _c("place")).select(
        *SIDE_KEY, "candidate", consumer=pl.lit("")
    )
