"""How receivers stood at their brokers, laid out for being asked by messages. The same for all of them, it is worked out once."""

from dataclasses import dataclass
from functools import cache
from typing import Final

import polars as pl

from hopwatch_collector.judge.frames import ALWAYS, SECOND, STATE_KEY, STATES, empty
from hopwatch_collector.judge.incarnations import Incarnations

GONE: Final = "gone"
THING: Final = [*STATE_KEY, "incarnation"]
QUEUE: Final = ["broker", "receiver", "incarnation"]

_NOW: Final = (
    "at", "first", "next", "done", "waiting", "in_hand", "published", "handed", "acked", "ttl_ms", "max_length",
    "dead_letters", "state",
)  # fmt: skip
_THERE: Final = ("at", "first", "next", "done", "waiting", "in_hand", "handed", "acked", "consumers", "kind")
_BEFORE: Final = ("published", "handed", "acked", "state", "held", "in_hand", "missing")
STEADY: Final = ("published", "handed", "acked", "held", "in_hand")
REST: Final = 7 * SECOND
"""Counters of a queue lag behind the messages by as much as the node's statistics do, five seconds by default."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What states of receivers say, each of one incarnation."""

    incarnations: Incarnations
    last: pl.DataFrame
    """How each stands now (`now_…`), stood when it was last there (`there_…`), and when it was last gone."""
    counters: pl.DataFrame
    """RabbitMQ's counters (`before_…`) at each moment (`at`) they were looked at, in that order; whether they then `rested`, so
    that none of them was behind the others."""
    begins: pl.DataFrame
    """Of logs: for each beginning, how far a receiver had read at least and had done at most."""
    steps: pl.DataFrame
    """When a look first showed each number of messages done, in the order of these."""
    members: pl.DataFrame
    """Of Kafka groups at each look (`at`), in that order: since when nobody has been in them (`deserted_at`)."""
    crowds: pl.DataFrame
    """Of Kafka's groups and RabbitMQ's queues: how many members or consumers there were (`consumers`), from when (`at`) until when."""

    @classmethod
    def of(cls, states: pl.DataFrame, latest: pl.DataFrame) -> "Standing":
        """Work it out from the states of some receivers (frames.STATES): all since a moment, and the last ones before it."""
        known = Incarnations.of(states, latest)
        every = pl.concat([known.states, known.latest]).unique().sort("at")
        counters = _counters(known.states)
        missing = counters.group_by(QUEUE).agg(now_missing=pl.col("before_missing").last())
        return cls(
            known,
            _last(every).join(missing, on=QUEUE, how="left"),
            counters,
            known.states.group_by(*THING, "first", "heard_from").agg(
                least_next=pl.col("next").min(),
                most_next=pl.col("next").max(),
                most_done=pl.col("done").max(),
                most_consumers=pl.col("consumers").max(),
            ),
            known.states.group_by(*THING, "done").agg(read_at=pl.col("at").min()).sort("done"),
            _members(every),
            _crowds(every),
        )

    @classmethod
    @cache
    def unknown(cls) -> "Standing":
        """Nothing is known of any."""
        return cls.of(empty(STATES), empty(STATES))


def _last(every: pl.DataFrame) -> pl.DataFrame:
    kind = pl.col("state")
    some_time_ago = pl.col("at") <= pl.col("at").max() - REST
    return every.group_by(THING).agg(
        *(pl.col(name).last().alias(f"now_{name}") for name in _NOW),
        *(pl.col(name).filter(kind != GONE).last().alias(f"there_{name}") for name in _THERE),
        gone_at=pl.col("at").filter(kind == GONE).max(),
        waited=pl.max_horizontal(pl.col("waiting").filter(some_time_ago).last().fill_null(0), 0),
        # Once is enough: what came in uncounted then is still there, or dropped.
        takes_dead_letters=pl.col("uncounted").max() > 0,
    )


def _members(states: pl.DataFrame) -> pl.DataFrame:
    left = pl.col("at").shift(-1).over(THING).fill_null(ALWAYS)
    manned_until = pl.when(pl.col("consumers") != 0).then("left_at").otherwise(0).cum_max().over(THING)
    since = pl.max_horizontal(manned_until, pl.col("at").min().over(THING))
    return (
        states.filter(pl.col("system") == "kafka")
        .with_columns(left_at=left)
        .select(*THING, "at", deserted_at=since)
    )


def _crowds(states: pl.DataFrame) -> pl.DataFrame:
    """How many read at the same time, by spells in which that did not change."""
    changes = pl.col("consumers") != pl.col("consumers").shift(1).over(THING)
    return (
        states.filter(pl.col("system").is_in(["kafka", "rabbitmq"]))
        .select(*THING, "at", consumers=pl.when(pl.col("state") == GONE).then(0).otherwise("consumers"))
        .filter(changes.fill_null(value=True))
        .with_columns(until=pl.col("at").shift(-1).over(THING).fill_null(ALWAYS))
        .filter(pl.col("consumers") > 0)
    )


def _counters(states: pl.DataFrame) -> pl.DataFrame:
    in_hand = pl.max_horizontal("in_hand", 0)
    held = pl.max_horizontal("waiting", 0) + in_hand
    # The row after it says until when it was seen so; where that is not told, until then.
    until = (
        pl.when(pl.col("unchanged_until") > 0).then("unchanged_until").otherwise("at").shift(-1).over(QUEUE)
    )
    queues = (
        states.filter(pl.col("system") == "rabbitmq")
        .sort("at")
        .with_columns(
            held=held, in_hand=in_hand, rested=(until - pl.col("at") >= REST).fill_null(value=False), earlier=pl.col("at") - REST
        )
    )  # fmt: skip
    # Messages that had come by then, at least, and are neither settled nor there.
    came = queues.join_asof(
        queues.select(*QUEUE, "at", came="published"), left_on="earlier", right_on="at", by=QUEUE, check_sortedness=False
    )  # fmt: skip
    missing = (pl.col("came").fill_null(0) - pl.col("acked") - pl.col("held")).cum_max().over(QUEUE)
    return came.with_columns(missing=missing).select(
        *QUEUE, "at", "unchanged_until", "rested", *(pl.col(name).alias(f"before_{name}") for name in _BEFORE)
    )
