"""The signals: small named questions about one pair of message and receiver, from which the rules decide.

`with_signals` adds a boolean column per name in SIGNALS. Each is worked out from the columns of messages.py, pairs.py and
broker_word.py, some by way of the few quantities that `_measured` adds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import polars as pl

from hopwatch_collector.judge.frames import ALWAYS, SECOND
from hopwatch_collector.judge.messages import ENDINGS, NOTHING_DUE
from hopwatch_collector.judge.standing import GONE

_REST: Final = 7 * SECOND
_STALE: Final = 30 * SECOND
_FIREHOSE_LAG: Final = 5 * SECOND
DROPPED, UNREAD, HELD, LEFT = ENDINGS
_DESERTED: Final = 3600 * SECOND
"""What is sent to a group that has had no member for so long is not waited for."""
COMMIT_AHEAD: Final = 3 * SECOND
"""A commit may be seen before the processing it is about: for so long a position passed is no sign of anything."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When is judged, and by which bounds. Times in µs."""

    now: int
    grace: int
    """How long a message without a known receiver is not yet called undelivered."""
    firehose_from: int = 0
    firehose_until: int = 0


_c = pl.col


def _is(name: str, *values: str) -> pl.Expr:
    return _c(name).is_in(values) if len(values) > 1 else _c(name) == values[0]


def _measured(frame: pl.DataFrame, moment: Moment) -> pl.DataFrame:
    """Add the quantities that several signals are made of."""
    now = moment.now
    nacked = _is("last_settle", "nack", "requeue")
    asked = (
        _c("last_reason")
        .str.extract(r"^again in ([0-9.]+) s", 1)
        .cast(pl.Float64, strict=False)
        .fill_null(0.0)
    )
    delay = pl.when(_c("last_settle") == "nack").then(pl.min_horizontal(asked, pl.lit(1e9))).otherwise(0.0)
    frame = frame.with_columns(
        nacked=nacked,
        # Of a message that is to be delivered later, its sender says when.
        waits_since=pl.when(nacked)
        .then(_c("last_ended_at") + (delay * 1000).cast(pl.Int64) * 1000)
        .otherwise(_c("sent_at") + _c("delay_us")),
        deadline=now - (_c("allowed_s") * SECOND).cast(pl.Int64),
        # Counters say something once they moved after the message and have stood still for longer than they lag behind.
        counted=_c("now_at") >= pl.max_horizontal("confirmed_at", "last_ended_at"),
        at_rest=_c("polled_at") >= _c("now_at") + _REST,
        # A restart of the broker sets them to nought, and so does declaring a queue anew: then they fall.
        comparable=~_c("known_before")
        | (
            (_c("now_published") >= _c("before_published"))
            & (_c("now_handed") >= _c("before_handed"))
            & (_c("now_acked") >= _c("before_acked"))
        ),
        ttl_elapsed=((_c("now_ttl_ms") >= 0) & (_c("sent_at") + _c("now_ttl_ms") * 1000 <= _c("now_at")))
        | ((_c("expires_at") > 0) & (_c("expires_at") <= _c("now_at"))),
        # Every handing-over of this message by the broker was heard; none is none.
        firehose_complete=_c("traced")
        & pl.lit(moment.firehose_from > 0)
        & (pl.lit(moment.firehose_from) < _c("sent_at"))
        & (pl.lit(moment.firehose_until) >= _c("now_at") + _FIREHOSE_LAG),
        was_handed=_c("handed_at").list.len().fill_null(0) > 0,
        # What was never handed out waits in the order it came in: the latest ones.
        left_by_now=_c("now_published") - _c("now_waiting"),
        # The same where counters are in motion: what waited some time ago, of all that may have come by then.
        left_at_most=_c("now_published") - _c("waited"),
        none_handed=_c("now_handed") == _c("before_handed"),
        none_settled=(_c("now_acked") <= _c("before_acked"))
        & (_returned("now", _c("now_in_hand")) <= _returned("steady", _c("steady_in_hand"))),
        # Given back, rejected, or handed out again: not the latest ones wait then, but some that had been handed out.
        returned_since=pl.max_horizontal(_returned("now", _c("now_in_hand")) - _returned("steady", _c("steady_in_hand")), 0),
        unhanded_wait=_c("now_waiting")
        >= _c("steady_held") + (_c("now_published") - _c("steady_published")) - (_c("now_handed") - _c("steady_handed")),
        dropped_since=_dropped(_c("steady_held") - _c("steady_published") + _c("steady_acked")),
        # Counters that had not come to rest are no sum: then neither is more than a bound, and nought is the other.
        dropped_in_all=pl.when("steady").then(_dropped(_c("steady_held") - _c("steady_published") + _c("steady_acked"))).otherwise(_dropped(pl.lit(0))),
    )  # fmt: skip
    return frame.with_columns(
        dropped_at_most=pl.max_horizontal("dropped_since", "dropped_in_all"),
        dropped_at_least=pl.min_horizontal("dropped_since", "dropped_in_all"),
        waits_too_long=_c("waits_since") < _c("deadline"),
        takes_too_long=_c("last_started_at") < _c("deadline"),
        settled_count=_c("counted") & _c("at_rest"),
        broker_word=_log_word(),
    ).with_columns(broker_word=pl.coalesce("broker_word", _queue_word()))


def _returned(when: str, in_hand: pl.Expr) -> pl.Expr:
    """How many had been handed out and were neither settled nor in hand at a moment, since the queue counts."""
    return _c(f"{when}_handed") - _c(f"{when}_acked") - in_hand


def _dropped(before: pl.Expr) -> pl.Expr:
    """How many messages of those that came are neither settled nor there; `before`: of those that were there before."""
    return before + _c("now_published") - _c("now_acked") - _c("now_waiting") - _c("now_in_hand")


def _first(*cases: tuple[pl.Expr, str | pl.Expr]) -> pl.Expr:
    """Return the word of the first case that holds; null where none does."""
    words = [pl.when(when).then(pl.lit(word) if isinstance(word, str) else word) for when, word in cases]
    return pl.coalesce(words)


@cache
def _log_word() -> pl.Expr:
    """What the broker says, in a word, where it keeps a log: of that it knows every single message. Null: no log."""
    nats = _c("system") == "nats"
    rabbit = _c("system") == "rabbitmq"
    gone = _c("now_state") == GONE
    done = _c("there_done") > _c("offset")
    shared = ~_c("tells") & (_c("there_next") > _c("least_read"))
    handed = _c("there_next") > _c("offset")
    # JetStream settles in any order: behind the first that is not settled others may be. So may be more handed out than are in
    # hand; that first one alone is known by its place.
    in_between = pl.min_horizontal(
        _c("there_next") - _c("there_done"),
        pl.when(_c("there_handed") >= 0).then(_c("there_handed") - _c("there_acked")),
    )
    is_first = _c("there_done") == _c("offset")
    in_hand = ~nats | _c("tells") | is_first | (_c("there_in_hand") >= in_between)
    in_nobodys_hands = nats & (_c("there_in_hand") == 0) & (_c("there_first") <= _c("offset"))
    in_log = (_c("offset") >= 0) & (_c("there_next") >= 0)
    return _first(
        (_c("advised") != "", _c("advised")),
        (_c("now_at") == 0, ""),
        # Deleted before it was sent: what was there then had other messages.
        (~rabbit & gone & (_c("now_at") < _c("sent_at")), ""),
        # What a log showed of a receiver while that was there stays true.
        (in_log & _c("began_behind") & (_c("tells") | ~_c("read_unseen")), "evicted"),
        (in_log & _c("began_behind"), "gone from the log"),
        # JetStream tells only once, and to those who listen, what it gave up or was told to.
        (in_log & done & (~nats | _c("end_heard")), "done"),
        (in_log & done, "ended unheard"),
        # It had gone on reading: consumers that tell nothing may have read this too before it was deleted.
        (in_log & gone & shared, "gone, shared"),
        (in_log & gone, "gone"),
        # Handed out and in nobody's hands: settled, as that it was given up would have been told to whoever listened.
        (in_log & handed & in_nobodys_hands & _c("passing_heard"), "done"),
        (in_log & handed & in_nobodys_hands & is_first, "max_deliveries"),
        (in_log & handed & in_nobodys_hands, "ended unheard"),
        (in_log & handed & in_hand, "in hand"),
        (in_log & handed, "part"),
        (in_log, "holds"),
        (~rabbit & gone, "gone"),
        (~rabbit, ""),
    )


@cache
def _queue_word() -> pl.Expr:
    """The same of a queue, of which the broker knows only how many messages there are."""
    deleted = (_c("now_state") == GONE) | (
        _c("gone_at").is_not_null() & (_c("gone_at") > pl.max_horizontal("sent_at", "confirmed_at"))
    )
    stream = _is("there_kind", "stream")
    nobody_took = _c("firehose_complete") | (
        ~stream
        & (
            (_c("there_waiting") + _c("there_in_hand") > 0)
            | _c("tells")
            | (_c("there_handed") <= _c("before_handed"))
        )
    )
    rests = _c("settled_count")
    waits, in_hand = _c("now_waiting") > 0, _c("now_in_hand") > 0
    # Priorities, and what comes in later than it was sent, change the order; so does what was given back.
    in_order = (_c("there_kind") == "") & ~_c("may_be_delayed")
    taken_in_order = in_order & (_c("returned_since") == 0)
    # The bounds that make the claims harder: what was surely counted with the message came before all that waits; what was counted
    # before it, at least, came before it.
    before_all_that_waits = in_order & (_c("published_then") <= _c("left_by_now"))
    left = pl.when(rests).then("left_by_now").otherwise(pl.max_horizontal("left_by_now", "left_at_most"))
    among_what_waits = in_order & (_c("before_published") >= left + _c("returned_since"))
    all_settled = (_c("now_in_hand") == 0) & (
        _c("now_handed") - _c("before_handed") == _c("now_acked") - _c("before_acked")
    )
    some_dropped = (
        (_c("dropped_at_most") > 0) & waits & ~(in_order & (_c("before_published") >= _c("left_by_now")))
    )
    surely_dropped = (
        before_all_that_waits & (_c("dropped_at_least") > 0) & (_c("none_handed") | (_c("tells") & ~in_hand))
    )
    may_be_pushed_out = _c("takes_dead_letters") & ((_c("now_max_length") >= 0) | _c("ttl_elapsed"))
    accounted = _c("tells") | _c("firehose_complete") | _c("none_handed")
    return _first(
        (deleted & ~_c("was_handed") & nobody_took, "gone"),
        (deleted, "gone, shared"),
        # Its messages stay, whoever has read them.
        (stream, "kept"),
        (_c("now_waiting") < 0, ""),
        (rests & ~_c("comparable") & waits, "queued"),
        (rests & ~_c("comparable") & in_hand, "in hand"),
        (rests & ~_c("comparable"), "counters reset"),
        # The firehose says of this very message whether it was handed out; counters, whether all that were are settled.
        (_c("was_handed") & ~_c("tells") & rests & all_settled, "drained"),
        (_c("was_handed") & ~_c("tells"), "handed"),
        (rests & _c("firehose_complete") & ~_c("was_handed") & ~waits, "dropped"),
        # As many wait as were not handed out: none of those was dropped, and who took the others told of it.
        (rests & waits & accounted & _c("unhanded_wait") & ~_c("takes_dead_letters"), "queued"),
        (rests & some_dropped & surely_dropped, "dropped"),
        (rests & some_dropped, "some dropped"),
        # What waits may have come in uncounted and pushed it out.
        (rests & waits & may_be_pushed_out, "uncounted"),
        (waits & accounted & (rests | _c("tells") | (_c("now_missing") <= _c("before_missing"))), "queued"),
        # Consumers that tell nothing took messages since; what they took came before what still waits.
        (rests & waits & _c("takes_dead_letters"), "uncounted"),
        (rests & waits & ~in_hand & before_all_that_waits & taken_in_order, "drained"),
        (waits & among_what_waits, "queued"),
        # Of those that came with it some were taken and others were not, or not in the order they came in.
        (waits, "part"),
        (in_hand & _c("tells"), "in hand"),
        (rests & in_hand & _c("none_settled") & (_c("dropped_at_most") <= 0), "in hand"),
        (in_hand, "part"),
        (~rests & ~_c("tells"), "part"),
        (~rests, ""),
        # Where messages come in uncounted, the sum says nothing; but if none was handed out, all that came are gone.
        (
            (_c("dropped_at_most") <= 0)
            & _c("takes_dead_letters")
            & _c("none_handed")
            & ~_c("may_be_delayed"),
            "dropped",
        ),
        ((_c("dropped_at_most") <= 0) & _c("takes_dead_letters"), "uncounted"),
        (_c("dropped_at_most") <= 0, "drained"),
        (_c("may_be_delayed"), "uncounted"),
        ((_c("dropped_at_least") > 0) & (_c("tells") | _c("none_handed")), "dropped"),
        (pl.lit(value=True), "shared"),
    )


def _let_go(ending: str) -> pl.Expr:
    """Whether that is how the last attempt ended: without a word of whether it was processed."""
    return _is("last_settle", "none") & ~_c("last_failed") & _c("last_reason").str.starts_with(ending)


_READ_WORDS: Final = ("done", "ended unheard")

SIGNALS: Final[Mapping[str, pl.Expr]] = {
    # What services showed.
    "call": _c("call"),
    "acknowledged": _c("acknowledged"),
    "by_ack": _is("acknowledged_by", "ack"),
    "by_auto_ack": _is("acknowledged_by", "auto"),
    "processed": _c("processed"),
    "received": _c("attempts") > 0,
    "dead_lettered_copy_read": _c("dead"),
    "last_failed": _c("last_failed"),
    "nacked": _c("nacked"),
    "rejected": _is("last_settle", "reject"),
    "acked_last": _is("last_settle", "ack"),
    "dropped_by_client": _let_go(DROPPED),
    "never_begun": _let_go(UNREAD),
    "handed_on": _let_go(HELD),
    "loop_left": _let_go(LEFT),
    "nothing_due": _c("last_reason").str.ends_with(NOTHING_DUE),
    "terminated_by_receiver": _is("last_settle", "term"),
    "handling_open": pl.when("call").then(_is("last_settle", "none")).otherwise(_c("last_ended_at") == 0),
    "streaming": _c("streaming"),
    "sender_seen": _c("sender_seen"),
    "receiver_named": _c("receiver") != "",
    "nats": _is("system", "nats"),
    "peer_protocol": _is("system", "websocket", "graphql"),
    # How the send ended.
    "not_published": _c("not_published"),
    "outcome_returned": _is("outcome", "returned"),
    "outcome_refused": _is("outcome", "refused"),
    "outcome_duplicate": _is("outcome", "duplicate"),
    "sent_again": _c("publish_reason").str.starts_with("sent again as "),
    "outcome_confirmed": _is("outcome", "confirmed"),
    "caller_gave_up": _c("call") & _is("outcome", "unconfirmed") & _c("sender_seen"),
    "unanswered": _is("outcome", "", "sent"),
    "publish_failed": _c("publish_failed"),
    # Time.
    "waits_too_long": _c("waits_too_long"),
    "takes_too_long": _c("takes_too_long"),
    "delay_runs": (_c("waits_since") > _c("judged_now")) & (_c("nacked") | (_c("delay_us") > 0)),
    "in_grace": _c("sent_at") >= _c("judged_now") - _c("grace_us"),
    # Who was owed it.
    "owed": _c("owed"),
    "kept_for_receiver": _c("kept"),
    "maybe_owed": _c("maybe_owed"),
    "one_of_several": _c("one_of_several"),
    "declared_alone": _is("declared", "alone"),
    "only_declared": _is("declared", "alone", "doubtful")
    & (_is("system", "rabbitmq") | ~_is("broker_word", "holds", "in hand", "part", "ended unheard")),
    "receiver_tells": _c("tells"),
    "coverage_gap": _c("coverage_gap"),
    "partly_told": _c("partly_told"),
    "coverage_pending": _c("coverage_pending")
    & (
        _c("committed_past")
        | _is(
            "broker_word",
            *("done", "ended unheard", "gone, shared", "gone from the log"),
            *("drained", "shared", "uncounted", "part"),
        )
    ),
    "recreated_then": _c("replaced_then"),
    "recreated_since": _c("spell_until") < ALWAYS,
    "broker_untold": _c("broker_untold"),
    "subscriber_broker_untold": _c("maybe_subscribed"),
    # Positions.
    "position_untold": pl.when(_c("system") == "nats")
    # What a stream copied from another one has an offset of its own there.
    .then(
        _c("watched")
        & ~_c("tells")
        & ((_c("offset") < 0) | (_c("partition") != _c("receiver").str.split("/").list.first()))
    )
    .otherwise((_c("system") == "kafka") & (_c("offset") < 0)),
    "committed_past": _c("committed_past"),
    "seeked_past": _c("seek_forward"),
    "counted_as_read": _c("committed_past") | _is("broker_word", "done"),
    "counted_as_read_or_ended": _c("committed_past") | _is("broker_word", *_READ_WORDS),
    "read_just_now": pl.when("committed_past").then("passed_at").otherwise("read_at")
    >= _c("judged_now") - COMMIT_AHEAD,
    "read_by_uninstrumented": _is("system", "nats") | (~_c("tells") & (_c("broker_word") != "")),
    "topic_compacted": _is("now_state", "compacted"),
    "done_means_processed": _c("processed") | (_is("system", "nats") & ~_let_go(UNREAD)),
    "failure_may_not_be_final": ~_c("last_failed") | _c("nacked"),
    # What the broker says.
    "broker_max_deliveries": _is("broker_word", "max_deliveries"),
    "broker_terminated": _is("broker_word", "terminated"),
    "broker_done": _is("broker_word", "done"),
    "broker_ended_unseen": _is("broker_word", "ended unheard"),
    "broker_dropped": _is("broker_word", "dropped"),
    "broker_compacted": _is("broker_word", "compacted"),
    "broker_aborted": _is("broker_word", "aborted"),
    "broker_evicted": _is("broker_word", "evicted", "removed"),
    "broker_evicted_perhaps": _is("broker_word", "gone from the log"),
    "broker_deleted": _is("broker_word", "gone"),
    "broker_deleted_shared": _is("broker_word", "gone, shared"),
    "broker_counters_reset": _is("broker_word", "counters reset"),
    "broker_partly_dropped": _is("broker_word", "some dropped"),
    "broker_uncounted": _is("broker_word", "uncounted"),
    "broker_partly_settled": _is("broker_word", "part"),
    "broker_keeps_all": _is("broker_word", "kept"),
    "broker_drained": _is("broker_word", "drained"),
    "broker_shared": _is("broker_word", "shared"),
    "broker_handed": _is("broker_word", "handed"),
    "broker_handed_out": _is("broker_word", "in hand"),
    "broker_holds": _is("broker_word", "holds", "queued"),
    # Nobody has ever taken anything from it: its messages wait for their time to live to be over, and go on from there.
    "parked": (_c("there_consumers") == 0)
    & (_c("there_handed") <= 0)
    & (_c("now_dead_letters") > 0)
    & ((_c("now_ttl_ms") >= 0) | (_c("expires_at") > 0))
    & ~_c("ttl_elapsed"),
    "left_over": _is("system", "kafka")
    & (_c("there_consumers") == 0)
    & (_is("there_kind", "made up") | (_c("sent_at") - _c("deserted_at") > _DESERTED)),
    "requeued_by_disconnect": _is("broker_word", "queued")
    & (_c("now_in_hand") == 0)
    & (_c("now_at") >= _c("last_started_at"))
    & ~_c("nacked")
    & _is("last_settle", "", "none"),
    # Its consumer gave it back or left it, and somebody who tells nothing has taken it since.
    "left_unseen": _is("broker_word", "drained", "shared", "part")
    & _c("settled_count")
    & (_c("nacked") | (_is("last_settle", "", "none") & (_c("now_in_hand") == 0))),
    "handed_and_gone": _c("waits_too_long") | (_c("settled_count") & (_c("now_in_hand") == 0)),
    "ttl_elapsed": _c("ttl_elapsed"),
    "queue_dead_letters": _c("now_dead_letters") > 0,
    "queue_limited": _c("now_max_length") >= 0,
    # Whether it could be asked.
    "watched": _c("watched"),
    "polled_since_sent": _c("polled_at") > _c("sent_at"),
    "poll_stale": _c("watched")
    & ((_c("now_state") == "hidden") | (_c("polled_at") < _c("judged_now") - _STALE))
    & (_c("receiver") != ""),
    "poll_complete": pl.when(_c("receiver").str.contains("/", literal=True))
    .then(_c("blind_to_streams") == "")
    .otherwise(_c("blind") == ""),
    "receiver_inaccessible": _is("now_state", "hidden"),
    "broker_knows_routes": pl.when("watched").then(_c("polled_at") > _c("sent_at")).otherwise("traced"),
    "routes_complete": _c("traced") | (_c("blind") == ""),
}
"""Every signal by name."""


def with_signals(frame: pl.DataFrame, moment: Moment) -> pl.DataFrame:
    """Return the pairs with a boolean column per signal, under its name with `is:` before it."""
    measured = _measured(
        frame.with_columns(judged_now=pl.lit(moment.now, pl.Int64), grace_us=pl.lit(moment.grace, pl.Int64)),
        moment,
    )
    return measured.with_columns(
        expression.fill_null(value=False).alias(f"is:{name}") for name, expression in SIGNALS.items()
    )
