"""Which of several things of one name is meant: a topic, stream or queue that was deleted and made again is another one."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from hopwatch_collector.judge.frames import ALWAYS, STATE_KEY

_PLACED: Final = ["system", "broker", "topic", "receiver", "partition"]


@dataclass(frozen=True, slots=True)
class Incarnations:
    """States, each with the incarnation it is of, and from when until when each incarnation was seen."""

    states: pl.DataFrame
    latest: pl.DataFrame
    spells: pl.DataFrame

    @classmethod
    def of(cls, states: pl.DataFrame, latest: pl.DataFrame) -> "Incarnations":
        """Return them for the states of some receivers (frames.STATES): all since a moment, and the last ones before it."""
        every = pl.concat(
            [latest.with_columns(late=pl.lit(value=False)), states.with_columns(late=pl.lit(value=True))]
        )
        known = _filled(every.unique().sort("at"))
        spells = (
            known.group_by(*STATE_KEY, "incarnation")
            .agg(
                began=pl.col("at").min(),
                ended=pl.col("at").max(),
                # Where it stood when it was first looked at: what lies before is not for it.
                least_next=pl.col("next").filter(pl.col("next") >= 0).min(),
                # A JetStream consumer may be made anew for a stream that is still the same.
                log=pl.col("incarnation").first().str.split(" ").list.first(),
            )
            .sort("began")
            .with_columns(
                after=pl.col("ended").shift(1).over(STATE_KEY).fill_null(0),
                before=pl.col("began").shift(-1).over(STATE_KEY).fill_null(ALWAYS),
                other_log=(pl.col("log").shift(-1).over(STATE_KEY) != pl.col("log")).fill_null(value=False),
            )
        )
        return cls(known.filter("late").drop("late"), known.filter(~pl.col("late")).drop("late"), spells)

    def meant(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """Add to each pair the incarnation that was there when its message was sent, and between which moments (µs) it was.

        `incarnation` is null where that was changing just then, and where nothing is known.
        """
        around = pairs.select("pair", *_PLACED, "sent_at", "confirmed_at", "first_at").with_columns(
            at=pl.when(pl.col("sent_at") > 0).then("sent_at").otherwise("first_at")
        )
        spells = self.spells.rename({"destination": "topic"})
        then = around.sort("at").join_asof(
            spells, left_on="at", right_on="began", by=_PLACED, strategy="backward", check_sortedness=False
        )
        # Sent before it was first looked at: the first one seen is taken for it.
        first = spells.filter(pl.col("after") == 0).unique(_PLACED, keep="first", maintain_order=True)
        early = around.join(
            then.filter(pl.col("incarnation").is_not_null()).select("pair"), on="pair", how="anti"
        ).join(first, on=_PLACED)
        columns = ["pair", "incarnation", "log", "spell_from", "spell_until", "replaced_then"]
        named = {"spell_from": pl.col("after"), "spell_until": pl.col("before")}
        replaced = pl.col("other_log") & (pl.max_horizontal("at", "confirmed_at") > pl.col("ended"))
        late = then.filter(pl.col("incarnation").is_not_null()).with_columns(**named, replaced_then=replaced)
        sure = early.with_columns(**named, replaced_then=pl.lit(value=False))
        found = self._read_anew(pairs, pl.concat([late.select(columns), sure.select(columns)]))
        return pairs.join(found, on="pair", how="left", maintain_order="left").with_columns(
            pl.col("replaced_then").fill_null(value=False),
            pl.col("spell_from").fill_null(0),
            pl.col("spell_until").fill_null(ALWAYS),
        ).with_columns(
            incarnation=pl.when("replaced_then").then(None).otherwise("incarnation"),
            # Of which of the two something is said, is not known then.
            spell_from=pl.when("replaced_then").then(ALWAYS).otherwise("spell_from"),
        )  # fmt: skip

    def _read_anew(self, pairs: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
        """Of receivers made anew for the same log: the last of them that begins before the message will be handed it."""
        offsets = pairs.select("pair", *_PLACED, "offset").join(found.select("pair", "log"), on="pair")
        later = (
            offsets.join(self.spells.rename({"destination": "topic"}), on=[*_PLACED, "log"])
            .filter(pl.col("least_next") <= pl.col("offset"))
            .sort("began")
            .unique("pair", keep="last")
            .select("pair", later="incarnation", later_until="before")
        )
        return (
            found.join(later, on="pair", how="left")
            .with_columns(
                incarnation=pl.coalesce("later", "incarnation"),
                spell_until=pl.coalesce("later_until", "spell_until"),
            )
            .drop("later", "later_until", "log")
        )


def _filled(states: pl.DataFrame) -> pl.DataFrame:
    """Where a witness could not tell the incarnation, it is taken for the one before, else for the one after."""
    told = pl.when(pl.col("incarnation") != "").then("incarnation")
    filled = told.forward_fill().over(STATE_KEY)
    return states.with_columns(incarnation=filled).with_columns(
        incarnation=pl.col("incarnation").backward_fill().over(STATE_KEY).fill_null("")
    )
