"""What brokers add to every pair: how it stands with the receiver now, stood when the message was sent, said of this message."""

from typing import Final, Literal

import polars as pl

from hopwatch_collector.judge.clocks import corrected, with_offset
from hopwatch_collector.judge.coverage import with_coverage, with_foreign_readers
from hopwatch_collector.judge.evidence import Evidence
from hopwatch_collector.judge.frames import SECOND
from hopwatch_collector.judge.standing import GONE, QUEUE, REST, STEADY, THING, Standing

_SPELL: Final = ("spell_from", "spell_until")
_MAX_OFFSET: Final = 2**63 - 1
_GROUP: Final = ["broker", "destination", "receiver", "partition"]
_PLACED: Final = ["system", "broker", "topic", "receiver", "partition", "incarnation"]


def with_broker_evidence(pairs: pl.DataFrame, evidence: Evidence, now: int) -> pl.DataFrame:
    """Return the pairs with what brokers say of their receivers and messages. Where they say nothing, 0, -1 or ''.

    With them: whether the silence of the receivers says something at the moment `now` (µs).
    """
    numbered = pairs.with_row_index("pair")
    found = numbered.with_columns(
        topic=pl.when(pl.col("system") == "kafka").then("destination").otherwise(pl.lit(""))
    )
    found = evidence.standing.incarnations.meant(found)
    found = _with_states(found, evidence)
    found = _with_counters_then(found, evidence.standing.counters)
    found = _with_log_history(found, evidence.standing)
    found = _with_commits(found, evidence)
    found = _with_seek(found, evidence)
    found = _with_advisory(found, evidence.advisories)
    found = with_coverage(found, evidence, now)
    found = with_foreign_readers(found, evidence.foreign_readers)
    return _with_polls(found, evidence).drop("pair", "topic", "incarnation")


def _left(pairs: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
    return pairs.join(
        states,
        left_on=_PLACED,
        right_on=THING,
        how="left",
        maintain_order="left",
    )


def _with_states(pairs: pl.DataFrame, evidence: Evidence) -> pl.DataFrame:
    """How the receiver stands now; how it stood when it was last there; when it was last gone."""
    last = evidence.standing.last
    return (
        _left(pairs, last)
        .with_columns(
            pl.col(name).fill_null(0 if kind == pl.Int64 else "")
            for name, kind in last.schema.items()
            if name not in THING and kind in (pl.Int64, pl.String)
        )
        .with_columns(
            pl.col("takes_dead_letters").fill_null(value=False),
        )
    )


def _with_counters_then(pairs: pl.DataFrame, counters: pl.DataFrame) -> pl.DataFrame:
    """RabbitMQ's counters before the message was sent, and how many messages had come when it was surely counted, at most."""
    rabbit = pairs.filter(pl.col("system") == "rabbitmq").select("pair", *QUEUE, "sent_at", "confirmed_at")
    before = (
        _asof(rabbit, "sent_at", counters, "backward")
        .rename({"at": "before_at"})
        .drop("unchanged_until", "rested")
    )
    # Of counters that have not come to rest some are behind the others: they are no sum.
    steady = _asof(rabbit, "sent_at", counters.filter("rested"), "backward").select(
        "pair", *(pl.col(f"before_{name}").alias(f"steady_{name}") for name in STEADY), steady=pl.col("at").is_not_null()
    )  # fmt: skip
    counted = rabbit.with_columns(counted_by=pl.max_horizontal("sent_at", "confirmed_at") + REST)
    published = counters.select(*QUEUE, "at", "unchanged_until", "before_published")
    last = _asof(counted, "counted_by", published, "backward").select("pair", last="before_published")
    # A count from before is no bound; one that was looked at in between and had not changed is.
    following = _asof(counted, "counted_by", published, "forward").select(
        "pair",
        following="before_published",
        still=pl.col("unchanged_until") >= pl.col("counted_by"),
    )
    known = pl.col("before_at").is_not_null() & (pl.col("before_state") != GONE)
    numbers = [f"before_{name}" for name in (*STEADY, "missing")]
    steadily = (
        pl.col("steady")
        & pl.col("known_before")
        & pl.all_horizontal(
            pl.col(f"steady_{name}") <= pl.col(f"before_{name}") for name in ("published", "handed", "acked")
        )
    )
    return (
        pairs.join(before.drop(*QUEUE, "sent_at", "confirmed_at"), on="pair", how="left", maintain_order="left")
        .join(steady, on="pair", how="left", maintain_order="left")
        .join(last, on="pair", how="left", maintain_order="left")
        .join(following, on="pair", how="left", maintain_order="left")
        .with_columns(
            known_before=known.fill_null(value=False),
            published_then=pl.when("still").then(pl.coalesce("last", "following")).otherwise(
                pl.coalesce("following", "now_published")
            ),
        )
        .with_columns(*(pl.when("known_before").then(name).otherwise(0).alias(name) for name in numbers))
        .with_columns(steady=steadily.fill_null(value=False))
        .with_columns(
            pl.when("steady").then(f"steady_{name}").otherwise(f"before_{name}").alias(f"steady_{name}") for name in STEADY
        )
        .with_columns(steady=pl.col("steady") | ~pl.col("known_before"))
        .drop("before_state", "before_at", "last", "following", "still")
    )  # fmt: skip


def _asof(
    pairs: pl.DataFrame, moment: str, counters: pl.DataFrame, strategy: Literal["backward", "forward"]
) -> pl.DataFrame:
    return pairs.sort(moment).join_asof(
        counters, left_on=moment, right_on="at", by=QUEUE, strategy=strategy, check_sortedness=False
    )


def _with_log_history(pairs: pl.DataFrame, standing: Standing) -> pl.DataFrame:
    """Of logs: whether one began behind the message before the receiver had read it; what was heard of its end."""
    logs = pairs.filter(pl.col("offset") >= 0).select("pair", *_PLACED, "offset", "there_next")
    heard_from = pl.when(pl.col("heard_from") < 0).then(_MAX_OFFSET).otherwise("heard_from")
    behind = (pl.col("first") > pl.col("offset")) & (pl.col("least_next") <= pl.col("offset"))
    told = (
        logs.join(standing.begins, left_on=_PLACED, right_on=THING)
        .group_by("pair")
        .agg(
            began_behind=behind.any(),
            # How far a Kafka group has read, who is in it tells only now and then: by a commit.
            read_unseen=(behind & (pl.col("most_consumers") > 0) & (pl.col("system") == "kafka")).any(),
            end_heard=((heard_from <= pl.col("offset")) & (pl.col("most_done") > pl.col("offset"))).any(),
            passing_heard=((heard_from <= pl.col("offset")) & (pl.col("most_next") > pl.col("offset"))).any(),
            least_read=pl.when(pl.col("first") < 0).then("there_next").otherwise("least_next").min(),
        )
    )
    return (
        pairs.join(told, on="pair", how="left", maintain_order="left")
        .join(_deserted(pairs, standing.members), on="pair", how="left", maintain_order="left")
        .join(_when_done(logs, standing.steps), on="pair", how="left", maintain_order="left")
        .with_columns(
            pl.col("began_behind", "read_unseen", "end_heard", "passing_heard").fill_null(value=False),
            pl.col("least_read").fill_null(pl.col("there_next")),
            # Where the look that first showed it is not known, the last change is as late as it can be.
            read_at=pl.when(pl.col("read_at") >= pl.col("first_at")).then("read_at").otherwise("now_at"),
        )
    )


def _deserted(pairs: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """Since when nobody had been in a Kafka group when a message was sent, as far as it was looked at."""
    kafka = pairs.filter(pl.col("system") == "kafka").select("pair", *_PLACED, "sent_at")
    return kafka.sort("sent_at").join_asof(
        members.rename({"destination": "topic"}),
        left_on="sent_at",
        right_on="at",
        by=_PLACED,
        strategy="backward",
        check_sortedness=False,
    ).select("pair", "deserted_at")  # fmt: skip


def _when_done(logs: pl.DataFrame, steps: pl.DataFrame) -> pl.DataFrame:
    """When a look first showed the receiver past the message."""
    return (
        logs.with_columns(beyond=pl.col("offset") + 1)
        .sort("beyond")
        .join_asof(
            steps.rename({"destination": "topic"}),
            left_on="beyond",
            right_on="done",
            by=_PLACED,
            strategy="forward",
            check_sortedness=False,
        )
        .select("pair", "read_at")
    )


def _with_commits(pairs: pl.DataFrame, evidence: Evidence) -> pl.DataFrame:
    """Where a Kafka group stands: the first commit past the message, and the latest of all."""
    of_kafka = pairs.filter(pl.col("system") == "kafka").select("pair", *_GROUP, "offset")
    told = with_offset(evidence.commits, evidence.clock_offsets).select(
        *_GROUP,
        next_commit="offset",
        next_commit_at=corrected("at"),
        next_commit_last_at=corrected("last_at"),
    )
    nearest = (
        of_kafka.with_columns(beyond=pl.col("offset") + 1)
        .sort("beyond")
        .join_asof(
            told.sort("next_commit"),
            left_on="beyond",
            right_on="next_commit",
            by=_GROUP,
            strategy="forward",
            check_sortedness=False,
        )
        .select("pair", "next_commit", "next_commit_at", "next_commit_last_at")
    )
    heads = (
        with_offset(evidence.commit_heads, evidence.clock_offsets)
        .select(*_GROUP, last_commit="offset", last_commit_at=corrected("last_at"))
        .sort("last_commit_at", "last_commit")
        .unique(_GROUP, keep="last")
    )
    return (
        pairs.join(nearest, on="pair", how="left", maintain_order="left")
        .join(heads, on=_GROUP, how="left", maintain_order="left")
        .with_columns(
            pl.col("next_commit", "last_commit").fill_null(-1),
            pl.col("next_commit_at", "next_commit_last_at", "last_commit_at").fill_null(0),
        )
        .with_columns(
            passed_exactly=(pl.col("next_commit") > pl.col("offset")) & _of_this_log("next_commit_last_at"),
            passed_by_now=(pl.col("last_commit") > pl.col("offset")) & _of_this_log("last_commit_at"),
        )
        .with_columns(
            committed_past=(pl.col("offset") >= 0) & (pl.col("passed_exactly") | pl.col("passed_by_now")),
            passed_at=pl.when("passed_exactly").then("next_commit_at").otherwise("last_commit_at"),
        )
        .drop("passed_exactly", "passed_by_now")
    )


def _of_this_log(committed_at: str) -> pl.Expr:
    """Whether a commit is of the log the message is in: a topic may be deleted and made again."""
    return (pl.col(committed_at) >= pl.col("first_at") - 60 * SECOND) & _in_spell(committed_at)


def _in_spell(name: str) -> pl.Expr:
    """Whether something was said while the thing was there that the message was sent to, not another of that name."""
    return (pl.col(name) >= pl.col("spell_from")) & (pl.col(name) < pl.col("spell_until"))


def _with_seek(pairs: pl.DataFrame, evidence: Evidence) -> pl.DataFrame:
    """The last time the receiver's consumer was moved over the message, forward or back."""
    if evidence.seeks.is_empty():
        return pairs.with_columns(seek_at=pl.lit(0, pl.Int64), seek_forward=pl.lit(value=False))
    moves = with_offset(evidence.seeks, evidence.clock_offsets).with_columns(at=corrected("at"))
    over = (
        pairs.filter((pl.col("system") == "kafka") & (pl.col("offset") >= 0))
        .select("pair", *_GROUP, "offset", "first_at", *_SPELL)
        .join(moves, on=_GROUP)
        # Before that, it was in a topic of that name that is no more.
        .filter(
            (pl.col("at") >= pl.col("first_at") - 60 * SECOND)
            & _in_spell("at")
            & (pl.col("offset") >= pl.min_horizontal("from_offset", "to_offset"))
            & (pl.col("offset") < pl.max_horizontal("from_offset", "to_offset"))
        )
        .sort("at", "from_offset", "to_offset")
        .group_by("pair")
        .agg(seek_at=pl.col("at").last(), seek_forward=(pl.col("to_offset") > pl.col("from_offset")).last())
    )
    return pairs.join(over, on="pair", how="left", maintain_order="left").with_columns(
        pl.col("seek_at").fill_null(0), pl.col("seek_forward").fill_null(value=False)
    )


def _with_advisory(pairs: pl.DataFrame, advisories: pl.DataFrame) -> pl.DataFrame:
    """What a broker said of the very message's offset."""
    place = (
        pl.when(pl.col("system") == "kafka")
        .then(pl.concat_str("destination", pl.lit(":"), "partition"))
        .otherwise("partition")
    )
    placed = pairs.with_columns(place=place).filter(pl.col("offset") >= 0)
    told = (
        placed.select("pair", "system", "broker", "receiver", "place", "offset", *_SPELL)
        .join(
            advisories,
            left_on=["system", "broker", "receiver", "place", "offset"],
            right_on=["system", "broker", "receiver", "partition", "offset"],
        )
        .filter(_in_spell("at"))
        .sort("kind")
        .group_by("pair", maintain_order=True)
        .agg(advised=pl.col("kind").first(), advised_at=pl.col("at").min())
    )
    return pairs.join(told, on="pair", how="left", maintain_order="left").with_columns(
        pl.col("advised").fill_null(""), pl.col("advised_at").fill_null(0)
    )


def _with_polls(pairs: pl.DataFrame, evidence: Evidence) -> pl.DataFrame:
    """When the broker could last be asked, and what it does not show."""
    # Consumers of streams are seen without the endpoint that shows NATS's plain subscribers.
    streams = (
        pl.when(pl.col("blind").str.starts_with("plain subscribers")).then(pl.lit("")).otherwise("blind")
    )
    polls = evidence.polls.select(
        "system",
        "broker",
        watched=pl.lit(value=True),
        polled_at="ok_at",
        poll_trouble="trouble",
        blind="blind",
        blind_to_streams=streams,
    )
    named = pl.struct("system", "broker").is_in(
        [{"system": system, "broker": name} for system, name in evidence.brokers.watched]
    )
    # One that was never reached may be the broker of whoever has no other.
    unnamed = polls.filter(~named).sort("polled_at").unique("system", keep="last").drop("broker")
    every = pl.concat([_polled(pairs, polls, ["system", "broker"]), _polled(pairs, unnamed, ["system"])])
    first = every.unique("pair", keep="first", maintain_order=True)
    return pairs.join(first, on="pair", how="left", maintain_order="left").with_columns(
        pl.col("watched").fill_null(value=False),
        pl.col("polled_at").fill_null(0),
        pl.col("poll_trouble", "blind", "blind_to_streams").fill_null(""),
        broker_untold=(pl.col("broker") == "") & pl.col("system").is_in(list(evidence.brokers.several)),
        others_watched=pl.col("system").is_in(polls["system"].unique().implode()),
    )


def _polled(pairs: pl.DataFrame, polls: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    return pairs.select("pair", "system", "broker").join(polls, on=by).select(
        "pair", "watched", "polled_at", "poll_trouble", "blind", "blind_to_streams"
    )  # fmt: skip
