"""From evidence to deliveries: the verdict on every pair of a message and a receiver, in one pass over frames."""

import re
from functools import cache
from typing import Final

import polars as pl

from hopwatch_collector.judge import messages as seen
from hopwatch_collector.judge.broker_word import with_broker_evidence
from hopwatch_collector.judge.brokers import SYSTEMS
from hopwatch_collector.judge.copies import copies, with_unread
from hopwatch_collector.judge.coverage import AGAIN
from hopwatch_collector.judge.evidence import Evidence
from hopwatch_collector.judge.frames import ALWAYS, SECOND
from hopwatch_collector.judge.histogram import bucket_of
from hopwatch_collector.judge.naming import named, places
from hopwatch_collector.judge.pairs import pairs
from hopwatch_collector.judge.rules import RULES
from hopwatch_collector.judge.signals import COMMIT_AHEAD, Moment, with_signals
from hopwatch_collector.judge.subscriptions import entitlements

_UNWATCHED: Final = (
    "no_receiver", "waiting.no_evidence", "overdue.no_evidence", "overdue.declared", "unknown.not_stored",
)  # fmt: skip
"""Causes that a broker's word would replace: of these it is said that theirs is not watched."""
_NO_ID: Final = bytes(16)
_c = pl.col

OPEN: Final = frozenset({"waiting", "overdue", "in_flight", "stuck", "unknown", "no_receiver"})
"""Verdicts that time, or more evidence from the broker, may change; so it may where nobody knows yet what a rejection led to."""

DELIVERY_COLUMNS: Final = (
    "day", "message", "receiver", "minute", "verdict", "cause", "detail", "open", "since", "due_at", "next_at", "witnesses", "system",
    "broker", "destination", "producer", "consumer", "trace_id", "flow", "keys", "partition", "offset", "pending", "conversation",
    "attempts", "call", "declared", "outcome", "publish_reason", "sender_seen", "failed", "first_at", "sent_at",
    "received_at", "settled_at", "sender_off_us", "receiver_off_us", "backwards", "received_in", "settled_in", "worked_for",
)  # fmt: skip
"""What a judged delivery is made of, as it is stored."""

_SIDE: Final = {
    "service": "consumer",
    "attempts": "attempts",
    "received_at": "received_at",
    "last_started_at": "last_started_at",
    "last_ended_at": "last_ended_at",
    "last_settle": "last_settle",
    "last_failed": "last_failed",
    "last_error": "last_error",
    "last_reason": "last_reason",
    "pending": "pending",
    "acknowledged": "acknowledged",
    "acknowledged_by": "acknowledged_by",
    "acknowledged_at": "acknowledged_at",
    "processed": "processed",
    "dead": "dead",
    "dead_reason": "dead_reason",
    "dead_at": "dead_at",
    "off_us": "receiver_off_us",
    "system": "own_system",
    "broker": "own_broker",
    "destination": "own_destination",
    "partition": "own_partition",
    "offset": "own_offset",
    "confirmed_at": "own_confirmed_at",
}


def judge(evidence: Evidence, now: int, deadline_s: float, grace_s: float) -> pl.DataFrame:
    """Return the deliveries of all messages in the evidence at the moment `now` (µs): DELIVERY_COLUMNS."""
    return decide(paired(evidence), evidence, now, deadline_s, grace_s)


def paired(evidence: Evidence) -> pl.DataFrame:
    """Return every pair of a message and a receiver, with what services showed of both. Needs no word of a broker."""
    sides = seen.sides(evidence.facts, evidence.clock_offsets)
    known = seen.messages(sides)
    copied = copies(sides, known)
    wanted = [
        known.filter("sender_seen").select("system", "destination"),
        copied.select("system", "destination"),
    ]
    some_unnamed = bool(sides["unnamed"].any())
    if some_unnamed:
        wanted.append(places(sides, known).select("system", "destination"))
    entitled = entitlements(evidence, pl.concat(wanted).unique())
    among = pl.DataFrame(schema={"message": pl.Binary, "receiver": pl.String})
    if some_unnamed:
        by_name = named(evidence.facts, sides, known, entitled)
        sides, among = seen.sides(by_name.facts, evidence.clock_offsets), by_name.among
    if not copied.is_empty():
        sides = with_unread(sides, copied, entitled)
    found = pairs(known, sides, evidence.message_events, entitled, copied)
    of_receivers = sides.filter(_c("receiver") != "")  # without a receiver, the sender's side is nobody's
    both = found.join(
        of_receivers.select("message", "receiver", *(_c(name).alias(own) for name, own in _SIDE.items())),
        on=["message", "receiver"],
        how="left",
    ).with_columns(
        _c("attempts", "received_at", "last_started_at", "last_ended_at", "acknowledged_at", "dead_at", "receiver_off_us", "own_confirmed_at").fill_null(0),
        _c("pending", "own_offset").fill_null(-1),
        _c(
            "consumer", "last_settle", "last_error", "last_reason", "acknowledged_by", "dead_reason", "own_system", "own_broker",
            "own_destination", "own_partition",
        ).fill_null(""),
        _c("last_failed", "acknowledged", "processed", "dead").fill_null(value=False),
    ).join(
        among.with_columns(one_of_several=pl.lit(value=True)), on=["message", "receiver"], how="left"
    ).with_columns(_c("one_of_several").fill_null(value=False))  # fmt: skip
    return _where_received(both)


def _where_received(found: pl.DataFrame) -> pl.DataFrame:
    """Judge each receiver by where it took the message from: a copy lies at a place of its own."""
    other_broker = (_c("own_broker") != "") & (_c("broker") != "") & (_c("own_broker") != _c("broker"))
    other_topic = (
        (_c("system") == "kafka")
        & (_c("own_destination") != "")
        & (_c("own_destination") != _c("destination"))
    )
    brokered = ~_c("call") & (_c("own_destination") != "") & _c("own_system").is_in(SYSTEMS)
    copied = brokered & ((_c("own_system") != _c("system")) | other_broker | other_topic)
    own_place = copied | (_c("own_offset") >= 0)
    return found.with_columns(
        system=pl.when(copied).then("own_system").otherwise("system"),
        broker=pl.when(copied | (_c("broker") == "")).then("own_broker").otherwise("broker"),
        destination=pl.when(copied).then("own_destination").otherwise("destination"),
        partition=pl.when(own_place).then("own_partition").otherwise("partition"),
        offset=pl.when(own_place).then("own_offset").otherwise("offset"),
        # A copy was there when somebody had received one, and not sooner than it was sent.
        confirmed_at=pl.when(copied).then(pl.max_horizontal("confirmed_at", "own_confirmed_at")).otherwise("confirmed_at"),
    ).drop("own_system", "own_broker", "own_destination", "own_partition", "own_offset", "own_confirmed_at")  # fmt: skip


def weighed(
    found: pl.DataFrame, evidence: Evidence, now: int, deadline_s: float, grace_s: float
) -> pl.DataFrame:
    """Return the pairs with what brokers say, their signals, and the number of the rule that decides (`rule`)."""
    found = _with_deadlines(found, evidence, deadline_s)
    found = with_broker_evidence(found, evidence, now)
    moment = Moment(now, int(grace_s * SECOND), evidence.firehose_from, evidence.firehose_until)
    return with_signals(found, moment).with_columns(rule=_deciding())


def decide(
    found: pl.DataFrame, evidence: Evidence, now: int, deadline_s: float, grace_s: float
) -> pl.DataFrame:
    """Return the pairs as deliveries."""
    return _in_full(weighed(found, evidence, now, deadline_s, grace_s), evidence, now)


@cache
def _deciding() -> pl.Expr:
    """The number of the first rule all of whose conditions hold."""
    return pl.coalesce(
        *(
            pl.when(_all(rule.when)).then(pl.lit(number, pl.Int16))
            for number, rule in enumerate(RULES)
        )
    )  # fmt: skip


def _all(conditions: tuple[str, ...]) -> pl.Expr:
    if not conditions:
        return pl.lit(value=True)
    return pl.all_horizontal(
        ~_c(f"is:{condition[4:]}") if condition.startswith("not ") else _c(f"is:{condition}")
        for condition in conditions
    )


def _with_deadlines(found: pl.DataFrame, evidence: Evidence, deadline_s: float) -> pl.DataFrame:
    """Add how long each receiver may take: by the first rule of the team that matches, else the general one."""
    rules = evidence.deadlines.sort("number").to_dicts()
    if not rules:
        return found.with_columns(allowed_s=pl.lit(deadline_s, pl.Float64))
    places = found.select("system", "destination", "receiver").unique()
    allowed = [_allowed(place, rules, deadline_s) for place in places.iter_rows()]
    return found.join(
        places.with_columns(allowed_s=pl.Series(allowed, dtype=pl.Float64)),
        on=["system", "destination", "receiver"],
        how="left",
        maintain_order="left",
    )


def _allowed(place: tuple[str, ...], rules: list[dict[str, object]], otherwise: float) -> float:
    system, destination, receiver = place
    for rule in rules:
        own, expression, prefix = str(rule["destination"]), str(rule["expression"]), str(rule["prefix"])
        rest = destination[len(prefix) :]
        matches = (
            not own
            or destination == own
            or (
                bool(expression)
                and destination.startswith(prefix)
                and re.search(expression, f".{rest}" if rest else "") is not None
            )
        )
        named = not rule["receiver"] or re.search(str(rule["receiver"]), receiver) is not None
        if matches and named and rule["system"] in ("", system):
            return float(str(rule["seconds"]))
    return otherwise


def _in_full(found: pl.DataFrame, evidence: Evidence, now: int) -> pl.DataFrame:
    """Complete the rows: cause, words, times, and when time alone may change them."""
    numbers = list(range(len(RULES)))
    verdict = _c("verdict")
    settled = verdict == "settled"
    allowed = (_c("allowed_s") * SECOND).cast(pl.Int64)
    by_broker = settled & ~_c("acknowledged") & ~_c("call")
    on_its_way = verdict.is_in(["stuck", "in_flight"])
    queued = verdict.is_in(["overdue", "waiting"])
    callee_unseen = _c("cause").str.ends_with("callee_unseen")
    received = _c("attempts") > 0
    since = (
        pl.when(_c("cause") == "settled.committed").then("passed_at")
        .when(by_broker).then("read_at")
        .when(_c("advised") != "").then("advised_at")
        .when(verdict.is_in(["lost", "expired", "evicted"])).then("now_at")
        .when(callee_unseen).then("confirmed_at")
        .when(settled).then("acknowledged_at")
        .when(_c("cause") == "dead_lettered.copy").then("dead_at")
        .when(verdict.is_in(["dead_lettered", "failed"])).then("last_ended_at")
        .when(verdict.is_in(["returned", "refused", "unconfirmed"])).then("confirmed_at")
        .when(_c("cause") == "skipped.seek").then("seek_at")
        .when(verdict == "skipped").then("passed_at")
        .when(on_its_way & received).then("last_started_at")
        .when((_c("cause") == "waiting.delayed") & received).then("last_ended_at")
        .when(on_its_way | queued).then("waits_since")
        .when("sender_seen").then("sent_at")
        .otherwise("first_at")
    )  # fmt: skip
    due_at = (
        pl.when(_c("cause") == "in_flight.streaming").then(0)
        .when(on_its_way & received).then(_c("last_started_at") + allowed)
        .when((on_its_way | queued | (verdict == "unknown")) & _c("sender_seen")).then(_c("waits_since") + allowed)
        .otherwise(0)
    )  # fmt: skip
    judged = (
        found.with_columns(
            cause=_c("rule").replace_strict(numbers, [rule.cause for rule in RULES], return_dtype=pl.String),
            verdict=_c("rule").replace_strict(numbers, [rule.verdict for rule in RULES], return_dtype=pl.String),
        )
        .with_columns(since=since, due_at=due_at, open=verdict.is_in(list(OPEN)) | (_c("cause") == "failed.reject"))
        .with_columns(
            settled_at=pl.when(settled).then("since").otherwise(0),
            detail=_detail(),
            witnesses=_witnesses(),
            next_at=_next_at(now, allowed),
        )
    )  # fmt: skip
    timed = _c("sender_seen") & (_c("received_at") > 0)
    backwards = timed & (_c("received_at") < _c("sent_at"))
    own_trace = _c("trace_id") == _c("flow")
    return _with_keys(judged, evidence).with_columns(
        failed=_c("last_failed") | _c("publish_failed"),
        minute=_c("first_at") // (60 * SECOND) * 60,
        trace_id=pl.when(own_trace).then(pl.lit(_NO_ID)).otherwise("trace_id"),
        backwards=backwards,
        received_in=bucket_of(pl.when(timed & ~backwards).then(_c("received_at") - _c("sent_at"))),
        settled_in=bucket_of(pl.when(settled & _c("sender_seen")).then(_c("settled_at") - _c("sent_at"))),
        worked_for=bucket_of(pl.when(settled & received).then(_c("settled_at") - _c("received_at"))),
    ).select(DELIVERY_COLUMNS)  # fmt: skip


def _with_keys(judged: pl.DataFrame, evidence: Evidence) -> pl.DataFrame:
    return judged.join(
        seen.keys(evidence.facts), on="message", how="left", maintain_order="left"
    ).with_columns(_c("keys").fill_null([]))


@cache
def _detail() -> pl.Expr:
    """What the evidence adds to the cause, in words of whoever told it; '' where nothing."""
    cause = _c("cause")
    failed = cause.str.starts_with("failed")
    return (
        pl.when(cause == "dead_lettered.copy").then("dead_reason")
        .when(_c("not_published")).then(pl.when(_c("publish_reason") != "").then("publish_reason").otherwise("publish_error"))
        .when(cause == "failed.callee_unseen").then("publish_error")
        .when(cause == "unknown.broker_unreachable").then("poll_trouble")
        .when(~_c("watched") & _c("others_watched") & (_c("broker") != "") & cause.is_in(_UNWATCHED)).then(pl.concat_str(pl.lit("its broker, "), "broker", pl.lit(", is not watched")))
        .when(cause.is_in(["unknown.missing_permissions", "unknown.no_permission"])).then("blind")
        .when(failed).then(pl.when(_c("last_error") == "").then("last_reason").otherwise("last_error"))
        .when(_c("nacked") | cause.str.ends_with("term")).then("last_reason")
        .otherwise(pl.lit(""))
    )  # fmt: skip


@cache
def _witnesses() -> pl.Expr:
    """Whose word it rests on: producer 1, consumer 2, broker 4."""
    asked = ["no_receiver.broker", "unknown.header_routing", "no_receiver.declared", "unknown.declared"]
    producer = _c("sender_seen") & (_c("producer") != "")
    consumer = (_c("attempts") > 0) | _c("dead") | (_c("cause") == "skipped.seek")
    broker = _c("traced") | (_c("broker_word") != "") | _c("cause").is_in(asked)
    return producer.cast(pl.UInt8) + consumer.cast(pl.UInt8) * 2 + broker.cast(pl.UInt8) * 4


def _next_at(now: int, allowed: pl.Expr) -> pl.Expr:
    """The next moment at which time alone may change the verdict; never for what is not open."""
    waits, started = _c("waits_since"), _c("last_started_at")
    moments = [
        # Verdicts ask whether something is older than a bound: it is a microsecond later.
        _c("sent_at") + _c("grace_us") + 1,
        waits,
        waits + allowed + 1,
        pl.when(started > 0).then(started + allowed + 1),
        pl.when("committed_past").then(_c("passed_at") + COMMIT_AHEAD + 1),
        pl.when("committed_past").then(None).otherwise(_c("read_at") + COMMIT_AHEAD + 1),
        pl.when(_c("expires_at") > 0).then("expires_at"),
        pl.when("coverage_pending").then(pl.lit(now + AGAIN)),
    ]
    ahead = [pl.when(moment > now).then(moment) for moment in moments]
    return pl.when("open").then(pl.min_horizontal(ahead)).fill_null(ALWAYS)
