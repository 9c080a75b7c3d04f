"""How receivers stood at their brokers, laid out for being asked by messages. The same for all of them, it is worked out once."""

from dataclasses import dataclass
from functools import cache
from typing import Final

import polars as pl

from hopwatch_collector.judge.frames import STATE_KEY, STATES, empty
from hopwatch_collector.judge.incarnations import Incarnations

GONE: Final = "gone"
THING: Final = [*STATE_KEY, "incarnation"]
QUEUE: Final = ["broker", "receiver", "incarnation"]

_NOW: Final = (
    "at", "first", "next", "done", "waiting", "in_hand", "published", "handed", "acked", "ttl_ms", "max_length",
    "dead_letters", "state",
)  # fmt: skip
_THERE: Final = ("at", "first", "next", "done", "waiting", "in_hand", "handed", "consumers")
_BEFORE: Final = ("first", "published", "handed", "acked", "state", "held")


@dataclass(frozen=True, slots=True)
class Standing:
    """What states of receivers say, each of one incarnation."""

    incarnations: Incarnations
    last: pl.DataFrame
    """How each stands now (`now_…`), stood when it was last there (`there_…`), and when it was last gone."""
    counters: pl.DataFrame
    """RabbitMQ's counters (`before_…`) at each moment (`at`) they were looked at, in that order."""
    begins: pl.DataFrame
    """Of logs: for each beginning, how far a receiver had read at least and had done at most."""
    steps: pl.DataFrame
    """When a look first showed each number of messages done, in the order of these."""

    @classmethod
    def of(cls, states: pl.DataFrame, latest: pl.DataFrame) -> "Standing":
        """Work it out from the states of some receivers (frames.STATES): all since a moment, and the last ones before it."""
        known = Incarnations.of(states, latest)
        return cls(
            known,
            _last(pl.concat([known.states, known.latest]).unique().sort("at")),
            _counters(known.states),
            known.states.group_by(*THING, "first", "heard_from").agg(
                least_next=pl.col("next").min(), most_done=pl.col("done").max()
            ),
            known.states.group_by(*THING, "done").agg(read_at=pl.col("at").min()).sort("done"),
        )

    @classmethod
    @cache
    def unknown(cls) -> "Standing":
        """Nothing is known of any."""
        return cls.of(empty(STATES), empty(STATES))


def _last(every: pl.DataFrame) -> pl.DataFrame:
    kind = pl.col("state")
    return every.group_by(THING).agg(
        *(pl.col(name).last().alias(f"now_{name}") for name in _NOW),
        *(pl.col(name).filter(kind != GONE).last().alias(f"there_{name}") for name in _THERE),
        gone_at=pl.col("at").filter(kind == GONE).max(),
        # Once is enough: what came in uncounted then is still there, or dropped.
        takes_dead_letters=pl.col("uncounted").max() > 0,
    )


def _counters(states: pl.DataFrame) -> pl.DataFrame:
    held = pl.max_horizontal("waiting", 0) + pl.max_horizontal("in_hand", 0)
    return (
        states.filter(pl.col("system") == "rabbitmq")
        .sort("at")
        .with_columns(held=held)
        .select(*QUEUE, "at", "unchanged_until", *(pl.col(name).alias(f"before_{name}") for name in _BEFORE))
    )
