"""The rules: one ordered table from which come the verdict, the sentence, the advice and what is missing.

Read from top to bottom, the first rule whose conditions all hold decides. A condition is the name of a signal (signals.py),
or `not` and such a name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table."""

    cause: str
    """The verdict and, after the point, its ground: lower case, dots and underscores."""
    when: tuple[str, ...]
    says: str
    """The cause in words, a sentence without its end."""
    advice: str = ""
    """What to do about it; empty where nothing is to be done."""
    needs: str = ""
    """What evidence would settle the doubt."""
    by_silence: bool = False
    """Whether it rests on somebody not having said anything."""

    @property
    def verdict(self) -> str:
        """The part of the cause before the point."""
        return self.cause.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that have their first conditions in common."""

    when: tuple[str, ...]
    rules: tuple["Rule | Group", ...]

    def flat(self) -> tuple[Rule, ...]:
        """Return the rules, each with all of its conditions."""
        return tuple(
            Rule(rule.cause, (*self.when, *rule.when), rule.says, rule.advice, rule.needs, rule.by_silence)
            for one in self.rules
            for rule in (one.flat() if isinstance(one, Group) else (one,))
        )


def _given(*when: str) -> tuple[str, ...]:
    return when


_DELAYED: Final = "to be delivered later on purpose"
_RECREATED_THEN: Final = (
    "its topic, stream or queue was deleted and made again at the time it was sent; which of the two it went to was not seen",
    "the receiver's word: the collector does not see the broker at every moment",
)

_ANYBODY: Final = Group(
    (),
    (
        Rule(
            "settled.caller_gone",
            _given("acknowledged", "call", "caller_gave_up"),
            "the callee answered without error, but its caller had given up and does not know",
            "Give the call more time, or see that to call again does no harm: what it asked for was done.",
        ),
        Rule("settled.answered", _given("acknowledged", "call"), "answered without error"),
        Rule("settled.ack", _given("acknowledged", "by_ack"), "acknowledged by the receiver"),
        Rule(
            "settled.auto",
            _given("acknowledged", "by_auto_ack"),
            "handled without an error that was seen; this receiver needs no acknowledgement",
        ),
        Rule(
            "settled.processed",
            _given("acknowledged"),
            "processed without error; this receiver does not report settlement",
        ),
        Rule(
            "settled.committed",
            _given("processed", "committed_past"),
            "handled without an error that was seen, and committed past",
        ),
        Rule(
            "dead_lettered.copy",
            _given("dead_lettered_copy_read"),
            "dead-lettered",
            "Read the dead-letter queue, correct what the reason names, and send the copies again.",
        ),
        Rule(
            "dead_lettered.max_deliveries",
            _given("broker_max_deliveries"),
            "the broker gave it up after too many deliveries",
            "Correct the handler's error, then send the message again: the server will not.",
        ),
        Rule(
            "dead_lettered.term",
            _given("broker_terminated"),
            "terminated by the receiver",
            "Look at the attempt's error: the handler refused the message for good.",
        ),
    ),
)

_HANDED_ON: Final = (
    "handed on within its process, which went on; whether it was processed there was not seen",
    "how the work on it ended: `hopwatch.processing(message)` around it, wherever in the process that is",
)

_LEFT: Final = (
    "an exception left the loop at it, and was caught elsewhere; whether it was processed all the same was not seen",
    "how the work on it ended: `hopwatch.processing(message)` around it, in the loop",
)

_UNREAD: Final = (
    "fetched in a batch and never begun, and the receiver went past it",
    "Have the consumer commit only what it has processed, and replay the range that was passed over.",
)

_LET_GO: Final = Group(
    (),
    (
        Rule(
            "lost.slow_consumer",
            _given("dropped_by_client"),
            "its client dropped it: more was pending than the subscription may hold",
            "Speed the subscriber up or let it hold more (nats-py: pending_msgs_limit, pending_bytes_limit), or use JetStream, which"
            " gives it again.",
        ),
        Rule("skipped.unread", _given("never_begun", "counted_as_read"), *_UNREAD),
        Rule("skipped.unread", _given("never_begun", "nothing_due"), *_UNREAD),
        Rule(
            "unknown.handed_on",
            _given("handed_on", "counted_as_read"),
            _HANDED_ON[0],
            needs=_HANDED_ON[1],
        ),
        Rule("unknown.handed_on", _given("handed_on", "nothing_due"), _HANDED_ON[0], needs=_HANDED_ON[1]),
        Rule("unknown.loop_left", _given("loop_left", "counted_as_read"), _LEFT[0], needs=_LEFT[1]),
        Rule("unknown.loop_left", _given("loop_left", "nothing_due"), _LEFT[0], needs=_LEFT[1]),
        Rule(
            "overdue.unread",
            _given("never_begun", "takes_too_long"),
            "fetched in a batch whose handling ended before it, and not settled within the deadline",
            "Have the consumer read on from where it failed: it went on, or ended, with this one unread.",
            by_silence=True,
        ),
        Rule(
            "waiting.unread",
            _given("never_begun"),
            "fetched in a batch whose handling ended before it; not settled yet",
        ),
        Rule(
            "stuck.handed_on",
            _given("handed_on", "takes_too_long"),
            "handed on within its process, and not settled within the deadline",
            "Look at what the loop hands its messages on to, and have that acknowledge or commit what it has processed.",
            by_silence=True,
        ),
        Rule(
            "in_flight.handed_on",
            _given("handed_on"),
            "handed on within its process, which has not settled it yet",
        ),
        Rule(
            "stuck.loop_left",
            _given("loop_left", "takes_too_long"),
            "an exception left the loop at it, and it was not settled within the deadline",
            "Look at what the receiver logged then: its loop was left in the middle of this one.",
            by_silence=True,
        ),
        Rule(
            "in_flight.loop_left",
            _given("loop_left"),
            "an exception left the loop at it, and it is not settled yet",
        ),
    ),
)

_RECEIVED: Final = Group(
    ("received",),
    (
        # To the broker a message that its receiver terminated is done too.
        Rule(
            "dead_lettered.term",
            _given("terminated_by_receiver"),
            "terminated by the receiver",
            "Look at the attempt's error: the handler refused the message for good.",
        ),
        Rule(
            "settled.broker_confirmed",
            # What a server says of single messages may come a little later than that it is past them.
            _given("broker_done", "not read_just_now", "not last_failed", "done_means_processed"),
            "processed, and the broker counts it as done",
        ),
        Rule(
            "unknown.missed_advisory",
            _given("broker_ended_unseen", "failure_may_not_be_final"),
            "the server counts it as ended; whether it was acknowledged, terminated, given up or removed was told while the collector was not listening",
            needs="the receiver's word: the collector was not listening to the server's advisories then",
        ),
        Group(
            ("broker_dropped", "nacked"),
            (
                Rule(
                    "dead_lettered.expired",
                    _given("ttl_elapsed", "queue_dead_letters"),
                    "its time to live ended in the queue, which has a dead-letter exchange",
                    "Add consumers or a longer time to live; the message lies in the dead-letter queue.",
                ),
                Rule(
                    "expired",
                    _given("ttl_elapsed"),
                    "its time to live ended before anyone read it",
                    "Add consumers, or give messages a longer time to live or the queue a dead-letter exchange.",
                ),
                Rule(
                    "dead_lettered.redelivery_limit",
                    _given("queue_dead_letters"),
                    "given back until the broker dead-lettered it",
                    "Read the dead-letter queue: the handler gave the message back until the broker gave up.",
                ),
                Rule(
                    "lost.redelivery_limit",
                    _given(),
                    "given back, and the queue no longer holds it",
                    "Give the queue a dead-letter exchange, correct the handler, and send the message again.",
                    by_silence=True,
                ),
            ),
        ),
        Group(
            ("left_unseen",),
            (
                Rule(
                    "settled.uninstrumented",
                    _given("broker_drained"),
                    "the broker counts it as done; who processed it was not seen",
                ),
                Rule(
                    "unknown.uninstrumented_consumers",
                    _given(),
                    "the queue no longer holds it; uninstrumented consumers took messages from it, and this may be one of them",
                    needs="instrumenting every consumer of this receiver",
                ),
            ),
        ),
        Group(
            ("requeued_by_disconnect",),
            (
                Rule(
                    "overdue.requeued",
                    _given("waits_too_long"),
                    "its consumer went away, and the queue has held it again for longer than the deadline",
                    "Look why its consumer went away, and whether another is there to take it again.",
                ),
                Rule(
                    "waiting.requeued",
                    _given(),
                    "its consumer went away without settling it; the queue holds it again",
                ),
            ),
        ),
        Group(
            ("nacked",),
            (
                Rule(
                    "waiting.delayed",
                    _given("delay_runs"),
                    _DELAYED,
                ),
                Rule(
                    "overdue.nacked",
                    _given("waits_too_long"),
                    "given back and not delivered again within the deadline",
                    "Look why the handler gives the message back, and whether a consumer is there to take it again.",
                    by_silence=True,
                ),
                Rule("waiting.nacked", _given(), "given back, to be delivered again"),
            ),
        ),
        Group(
            ("handling_open",),
            (
                Rule(
                    "in_flight.streaming",
                    _given("streaming"),
                    "its answer has begun and goes on: a stream may last",
                ),
                Rule(
                    "stuck.open",
                    _given("takes_too_long"),
                    "still being processed after the deadline",
                    "Look where the handler hangs: the flow shows what it was doing last.",
                ),
                Rule("in_flight.open", _given(), "being processed"),
            ),
        ),
        Rule(
            "dead_lettered.reject",
            _given("rejected", "queue_dead_letters"),
            "rejected, and the queue has a dead-letter exchange",
            "Read the dead-letter queue and the attempt's error.",
        ),
        Rule(
            "failed.reject",
            _given("rejected"),
            "rejected for good; no dead-lettered copy has been seen",
            "Look at the attempt's error, and give the queue a dead-letter exchange so that nothing is thrown away.",
        ),
        Group(
            ("last_failed",),
            (
                Rule(
                    "failed.answered",
                    _given("call"),
                    "answered with an error",
                    "Look at the error the callee answered with.",
                ),
                Rule(
                    "failed.ack",
                    _given("acked_last"),
                    "acknowledged, but the handler failed",
                    "The handler failed after acknowledging: acknowledge last, and send the message again.",
                ),
                Rule(
                    "failed.committed",
                    _given("committed_past"),
                    "committed past, but the handler failed",
                    "The handler failed and the group went on: replay this offset once it is corrected.",
                ),
                Rule(
                    "failed.handler",
                    _given(),
                    "the handler failed and nothing more is due",
                    "Correct the handler's error and send the message again.",
                ),
            ),
        ),
        _LET_GO,
        # Whether the broker is past it, nobody can tell then.
        Rule(
            "unknown.recreated",
            _given("recreated_then", "takes_too_long"),
            _RECREATED_THEN[0],
            needs=_RECREATED_THEN[1],
        ),
        Rule(
            "stuck.unsettled",
            _given("takes_too_long"),
            "processed, but not settled within the deadline",
            "Have the handler acknowledge or commit what it has processed.",
            by_silence=True,
        ),
        Rule("in_flight.unsettled", _given(), "processed, not yet settled"),
    ),
)

_NOT_PUBLISHED: Final = Group(
    ("not_published",),
    (
        Rule(
            "returned",
            _given("outcome_returned"),
            "there was nowhere to route it",
            "Bind a queue, start the receiver, or correct the address the sender used.",
        ),
        Rule(
            "refused",
            _given("outcome_refused"),
            "the broker did not take it",
            "Look at the broker's answer in the reason; the sender has to send again.",
        ),
        Rule(
            "refused.duplicate",
            _given("outcome_duplicate"),
            "the broker dropped it as a duplicate of an earlier message",
            "Nothing, if the sender repeated itself on purpose: the first copy was taken.",
        ),
        Rule(
            "unconfirmed.sent_again",
            _given("sent_again"),
            "no answer to the send, and its sender tried again under another id",
            "Follow the one that was sent again; a receiver that shows both got it twice.",
        ),
        Rule(
            "unconfirmed",
            _given(),
            "no answer to the send",
            "Look whether a receiver got it before sending again: the broker's answer was lost.",
        ),
    ),
)

_CALL: Final = Group(
    ("call",),
    (
        Group(
            ("unanswered",),
            (
                Rule(
                    "in_flight.streaming",
                    _given("streaming"),
                    "its answer has begun and goes on: a stream may last",
                ),
                Rule(
                    "stuck.unanswered",
                    _given("waits_too_long"),
                    "called and not answered within the deadline; the callee was not seen",
                    "Look whether the callee still works on it, and give the call a timeout; instrument the callee to see.",
                    by_silence=True,
                ),
                Rule(
                    "in_flight.unanswered",
                    _given(),
                    "called and not yet answered; the callee was not seen",
                ),
            ),
        ),
        Rule(
            "unknown.undecided",
            _given("not outcome_confirmed"),
            "the evidence does not decide: needs the broker's",
            needs="the word of the receiver or of the broker",
        ),
        Rule(
            "failed.callee_unseen",
            _given("publish_failed"),
            "answered with an error; the callee was not seen",
            "Look at the error the caller was answered with.",
        ),
        Rule("settled.callee_unseen", _given(), "answered without error; the callee was not seen"),
    ),
)

_SAMPLED: Final = (
    "no sign of delivery, and other instrumentations, which may tell only part of what they see, watch who reads from there",
    "the broker's word, or a consumer that tells of every message: instrumenting the receiver with hopwatch",
)
_BROKER_UNTOLD: Final = (
    "several brokers of this kind are known, and which of them it went through was not told",
    "the broker's identity from sender and receivers: an instrumented client that tells it",
)

_WHICH_BROKER: Final = Group(
    ("broker_untold",),
    (
        Rule(
            "waiting.no_evidence",
            _given("not waits_too_long"),
            "no sign of delivery yet (no broker evidence)",
        ),
        Rule("unknown.which_broker", _given(), _BROKER_UNTOLD[0], needs=_BROKER_UNTOLD[1]),
    ),
)

_RECREATED: Final = Group(
    ("recreated_then",),
    (
        Rule(
            "waiting.no_evidence",
            _given("not waits_too_long"),
            "no sign of delivery yet (no broker evidence)",
        ),
        Rule("unknown.recreated", _given(), _RECREATED_THEN[0], needs=_RECREATED_THEN[1]),
    ),
)

_DECLARED: Final = Group(
    ("only_declared",),
    (
        Rule(
            "waiting.declared",
            _given("in_grace"),
            "declared to be owed it, and no sign of delivery yet",
        ),
        Group(
            ("polled_since_sent", "poll_complete"),
            (
                Rule(
                    "skipped",
                    _given("counted_as_read", "receiver_tells"),
                    "the group committed past it without a trace of processing",
                    "Have the consumer commit only what it has processed, and replay the range that was passed over.",
                    by_silence=True,
                ),
                Rule(
                    "unknown.declared",
                    _given("counted_as_read"),
                    "declared to be owed it; whether this receiver was there in time the broker does not tell",
                    needs="instrumenting the receiver: it was first seen, or may be seen under another name, after it was sent",
                ),
                Rule(
                    "no_receiver.declared",
                    _given("declared_alone"),
                    "declared to be owed it, but the broker knew of no such receiver when it was sent",
                    "Create or start the receiver, bind it to the destination, or correct its name where it is declared.",
                ),
                Rule(
                    "unknown.declared",
                    _given("waits_too_long"),
                    "declared to be owed it; whether this receiver was there in time the broker does not tell",
                    needs="instrumenting the receiver: it was first seen, or may be seen under another name, after it was sent",
                ),
                Rule(
                    "waiting.declared",
                    _given(),
                    "declared to be owed it, and no sign of delivery yet",
                ),
            ),
        ),
        Rule(
            "waiting.declared",
            _given("not waits_too_long"),
            "declared to be owed it, and no sign of delivery yet",
        ),
        Rule(
            "overdue.declared",
            _given("not watched"),
            "declared to be owed it, and no sign of delivery within the deadline (no broker evidence)",
            "Look whether the receiver runs under the name it is declared by; watching the broker would tell more.",
            by_silence=True,
        ),
        Rule(
            "unknown.missing_permissions",
            _given("polled_since_sent"),
            "no receiver is known, but the collector cannot see everything the broker has",
            needs="what the collector may not see at the broker: see `trouble` under /healthz",
        ),
        Rule(
            "unknown.broker_unreachable",
            _given(),
            "the broker cannot be asked",
            needs="the broker's answer: see `trouble` under /healthz",
        ),
    ),
)

_READ: Final = Group(
    ("counted_as_read_or_ended",),
    (
        Rule(
            "waiting.no_evidence",
            _given("read_just_now"),
            "no sign of delivery yet (no broker evidence)",
        ),
        Rule(
            "unknown.missed_advisory",
            _given("broker_ended_unseen"),
            "the server counts it as ended; whether it was acknowledged, terminated, given up or removed was told while the collector was not listening",
            needs="the receiver's word: the collector was not listening to the server's advisories then",
        ),
        Rule(
            "unknown.coverage_gap",
            _given("coverage_gap", "not nats"),
            "it was passed when a process of this receiver went silent, lost spans or told only part of what it did; whether it was processed was not told",
            needs="what that process did: it ended before it told, lost spans (`hopwatch losses`), or follows a sampler (HOPWATCH_LEDGER)",
        ),
        Rule(
            "settled.uninstrumented",
            _given("read_by_uninstrumented"),
            "the broker counts it as done; who processed it was not seen",
        ),
        Rule(
            "unknown.compacted",
            _given("topic_compacted"),
            "the group committed past it, but the topic is compacted: a later record of the same key may have taken its place before",
            needs="the record's key, to see whether a later one took its place: look into the topic",
        ),
        Rule(
            "skipped",
            _given(),
            "the group committed past it without a trace of processing",
            "Have the consumer commit only what it has processed, and replay the range that was passed over.",
            by_silence=True,
        ),
    ),
)

_DROPPED: Final = Group(
    ("broker_dropped",),
    (
        Rule(
            "dead_lettered.expired",
            _given("ttl_elapsed", "queue_dead_letters"),
            "its time to live ended in the queue, which has a dead-letter exchange",
            "Add consumers or a longer time to live; the message lies in the dead-letter queue.",
        ),
        Rule(
            "expired",
            _given("ttl_elapsed"),
            "its time to live ended before anyone read it",
            "Add consumers, or give messages a longer time to live or the queue a dead-letter exchange.",
        ),
        Rule(
            "dead_lettered.overflow",
            _given("queue_limited", "queue_dead_letters"),
            "the queue was too long, and has a dead-letter exchange",
            "Add consumers or a longer queue; the message lies in the dead-letter queue.",
        ),
        Rule(
            "evicted.overflow",
            _given("queue_limited"),
            "the queue was too long: the broker dropped it",
            "Add consumers, raise the queue's limit, or give it a dead-letter exchange.",
        ),
        Rule(
            "lost.dropped",
            _given(),
            "the queue no longer holds it, and counted nobody it was handed to",
            "Ask who purged the queue; the message has to be sent again.",
            by_silence=True,
        ),
    ),
)

_HELD: Final = Group(
    (),
    (
        Group(
            ("poll_stale",),
            (
                Rule(
                    "waiting.no_evidence",
                    _given("not waits_too_long"),
                    "no sign of delivery yet (no broker evidence)",
                ),
                Rule(
                    "unknown.no_permission",
                    _given("receiver_inaccessible"),
                    "the collector can no longer see this receiver",
                    needs="what the collector may not see at the broker, most often for lack of rights: see `trouble` under /healthz",
                ),
                Rule(
                    "unknown.broker_unreachable",
                    _given(),
                    "the broker cannot be asked",
                    needs="the broker's answer: see `trouble` under /healthz",
                ),
            ),
        ),
        Group(
            ("broker_partly_settled",),
            (
                Rule(
                    "waiting.no_evidence",
                    _given("not waits_too_long"),
                    "no sign of delivery yet (no broker evidence)",
                ),
                Rule(
                    "unknown.partly_settled",
                    _given(),
                    "of the messages that came with it some are settled and others are not; which of them this is, only its consumers can tell",
                    needs="instrumenting every consumer of this receiver: messages may be settled in another order than they came in",
                ),
            ),
        ),
        Group(
            ("broker_keeps_all",),
            (
                Rule(
                    "waiting.no_evidence",
                    _given("not waits_too_long"),
                    "no sign of delivery yet (no broker evidence)",
                ),
                Rule(
                    "unknown.stream",
                    _given(),
                    "its queue is a stream, which keeps all messages for whoever reads it; who has read which, the broker does not tell",
                    needs="the word of whoever reads it: instrument every reader of this stream",
                ),
            ),
        ),
        Group(
            ("receiver_tells", "broker_handed_out"),
            (
                Rule(
                    "overdue.prefetched",
                    _given("waits_too_long"),
                    "fetched by a client that has not begun on it within the deadline",
                    "Add consumers or let each fetch fewer messages at a time: a busy one sits on it.",
                    by_silence=True,
                ),
                Rule("waiting.prefetched", _given(), "fetched by a client that has not begun on it"),
            ),
        ),
        Group(
            ("broker_handed_out",),
            (
                Rule(
                    "stuck.uninstrumented",
                    _given("waits_too_long"),
                    "handed out for longer than the deadline, says the broker; to whom was not seen",
                    "Look at the consumers of this receiver: one holds the message and does not settle it.",
                ),
                Rule(
                    "in_flight.uninstrumented",
                    _given(),
                    "handed out, says the broker; to whom was not seen",
                ),
            ),
        ),
        Group(
            ("broker_holds",),
            (
                Rule("waiting.delayed", _given("parked"), _DELAYED),
                Rule(
                    "waiting.left_over",
                    _given("left_over"),
                    "nobody has been in its group for long: left over perhaps, and kept in case somebody comes",
                ),
                Rule(
                    "overdue.held",
                    _given("waits_too_long"),
                    "the broker has held it for longer than the deadline",
                    "Start the receiver, or add consumers: the broker still holds the message for it.",
                ),
                Rule("waiting.held", _given(), "the broker holds it"),
            ),
        ),
        Group(
            ("owed",),
            (
                Rule(
                    "waiting.no_evidence",
                    _given("not waits_too_long"),
                    "no sign of delivery yet (no broker evidence)",
                ),
                Rule(
                    "unknown.which_receiver",
                    _given("one_of_several"),
                    "a service that does not tell from which queue or as which group it reads processed it; this is one of several it can have been",
                    needs="the name of the queue or group in the consumer's spans: instrumenting the receiver",
                ),
                Rule(
                    "unknown.not_stored",
                    _given("not kept_for_receiver", "nats"),
                    "this subscriber was never seen to get it, and a plain NATS subject keeps nothing: needs the broker's evidence",
                    needs="instrumenting the subscriber, or JetStream, which keeps what was not received",
                ),
                Rule(
                    "unknown.no_position",
                    _given("position_untold"),
                    "where it lies in the log was not told, so no commit or position says whether it was read",
                    needs="the broker's answer to the send (`acks`), without which neither sender nor broker can say where the message is or whether it was stored; of a copy in another stream, the word of whoever reads it",
                ),
                Rule("unknown.sampled", _given("partly_told"), _SAMPLED[0], needs=_SAMPLED[1]),
                Rule(
                    "overdue.no_evidence",
                    _given(),
                    "no sign of delivery within the deadline (no broker evidence)",
                    "Look whether the receiver runs and keeps up.",
                    by_silence=True,
                ),
            ),
        ),
    ),
)

_NOBODY: Final = Group(
    (),
    (
        Rule(
            "unknown.sender_unseen",
            _given("not sender_seen"),
            "the sender has not been seen",
            needs="instrumenting the sender",
        ),
        Rule(
            "unknown.undecided",
            _given("receiver_named"),
            "the evidence does not decide: needs the broker's",
            needs="the word of the receiver or of the broker",
        ),
        Rule(
            "unknown.silent_peer",
            _given("peer_protocol"),
            "the peer does not tell what it receives",
            needs="instrumenting the peer",
        ),
        Rule(
            "waiting.no_receiver_yet",
            _given("in_grace"),
            "no sign of a receiver yet (no broker evidence)",
        ),
        Rule(
            "unknown.which_broker",
            _given("subscriber_broker_untold"),
            _BROKER_UNTOLD[0],
            needs=_BROKER_UNTOLD[1],
        ),
        Rule(
            "unknown.header_routing",
            _given("maybe_owed"),
            "where it went depends on more than its routing key, its headers perhaps: needs a consumer's word",
            needs="the message's headers, by which its exchange decides: instrumenting the receiver",
        ),
        Group(
            ("broker_knows_routes",),
            (
                Rule(
                    "no_receiver.broker",
                    _given("routes_complete"),
                    "the broker knows nobody who was owed it",
                    "Subscribe somebody, or stop sending what nobody reads.",
                ),
                Rule(
                    "unknown.missing_permissions",
                    _given(),
                    "no receiver is known, but the collector cannot see everything the broker has",
                    needs="what the collector may not see at the broker: see `trouble` under /healthz",
                ),
            ),
        ),
        Rule(
            "unknown.broker_unreachable",
            _given("watched", "waits_too_long"),
            "the broker cannot be asked",
            needs="the broker's answer: see `trouble` under /healthz",
        ),
        Rule(
            "waiting.no_receiver_yet",
            _given("watched"),
            "no sign of a receiver yet (no broker evidence)",
        ),
        Rule("unknown.sampled", _given("partly_told"), _SAMPLED[0], needs=_SAMPLED[1]),
        Rule(
            "no_receiver",
            _given(),
            "nobody is known to have been owed it (no broker evidence)",
            "Subscribe somebody, or stop sending what nobody reads.",
            by_silence=True,
        ),
    ),
)

_NOT_RECEIVED: Final = Group(
    (),
    (
        _NOT_PUBLISHED,
        _CALL,
        Rule("waiting.delayed", _given("delay_runs"), _DELAYED),
        Rule(
            "skipped.seek",
            _given("seeked_past"),
            "its consumer was moved past it by a seek",
            "Ask who moved the consumer, and replay the range that was passed over if it is wanted.",
        ),
        Rule(
            "evicted.compacted",
            _given("broker_compacted"),
            "a later record of the same key took its place before this receiver read it",
            "Nothing, if only the latest record of a key matters; else turn the topic's compaction off.",
        ),
        Rule(
            "refused.aborted",
            _given("broker_aborted"),
            "its transaction was aborted",
            "Nothing, if the sender aborted on purpose: readers of committed records never see it.",
        ),
        Rule(
            "evicted.retention",
            _given("broker_evicted"),
            "the broker removed it from the log before this receiver read it",
            "Speed the receiver up or keep messages longer: retention removed what it had not read.",
        ),
        Group(
            ("broker_evicted_perhaps",),
            (
                Rule(
                    "waiting.no_evidence",
                    _given("coverage_pending"),
                    "no sign of delivery yet (no broker evidence)",
                ),
                Rule(
                    "unknown.evicted",
                    _given(),
                    "the broker removed it from the log before the group committed past it; whether the group had read it by then, its commits do not tell",
                    needs="instrumenting every member of this group: it may read further than it has committed",
                ),
            ),
        ),
        _RECREATED,
        _WHICH_BROKER,
        # Whoever took it may still tell.
        Rule(
            "waiting.no_evidence",
            _given("coverage_pending"),
            "no sign of delivery yet (no broker evidence)",
        ),
        _DECLARED,
        # A commit may be seen before the processing it is about.
        _READ,
        Rule(
            "lost.recreated",
            _given("broker_deleted", "recreated_since"),
            "its topic, stream or queue was deleted, and made again, before this receiver had read it",
            "Send the message again: what is there now bears the same name, and does not hold it.",
        ),
        Rule(
            "no_receiver.left",
            _given("broker_deleted", "owed", "not kept_for_receiver"),
            "its receiver was there only as long as somebody was connected, and left before it had read it",
            "Nothing, if it was meant for whoever was there; else give the receiver a name and have it last.",
        ),
        Rule(
            "no_receiver.left_over",
            _given("broker_deleted", "left_over"),
            "nobody had been in its group for long when it was sent, and the group is gone",
            "Nothing, if nobody reads under that name any more; else start the receiver: it begins anew.",
        ),
        Rule(
            "lost.receiver_deleted",
            _given("broker_deleted"),
            "the receiver was deleted before it had read it",
            "The receiver was deleted with messages waiting: send them again to whoever replaces it.",
        ),
        Rule(
            "unknown.receiver_deleted",
            _given("broker_deleted_shared"),
            "the receiver was deleted; uninstrumented consumers took messages from it, and this may be one of them",
            needs="instrumenting every consumer the receiver had before it was deleted",
        ),
        Rule(
            "unknown.counters_reset",
            _given("broker_counters_reset"),
            "the counters of the broker or the queue fell after it was sent: needs its consumer's word",
            needs="the receiver's word: the queue's counters began anew since it was sent",
        ),
        Rule(
            "unknown.partly_dropped",
            _given("broker_partly_dropped"),
            "the queue dropped some messages and holds others; which of them this is only its consumer can tell",
            needs="the receiver's word: the queue dropped some and kept others within a few seconds",
        ),
        Rule(
            "unknown.uncounted_dead_letters",
            _given("broker_uncounted"),
            "this queue also receives dead-lettered messages or delayed ones, which RabbitMQ does not count, so its counters cannot show whether this message was consumed",
            needs="its consumer's word: instrument every consumer of this queue, to which messages come uncounted",
        ),
        _DROPPED,
        Rule(
            "settled.uninstrumented",
            _given("broker_drained"),
            "the broker counts it as done; who processed it was not seen",
        ),
        Rule(
            "unknown.uninstrumented_consumers",
            _given("broker_shared"),
            "the queue no longer holds it; uninstrumented consumers took messages from it, and this may be one of them",
            needs="instrumenting every consumer of this receiver",
        ),
        Group(
            ("broker_handed",),
            (
                Rule(
                    "unknown.ack_not_visible",
                    _given("handed_and_gone"),
                    "the broker handed it out; whether it was settled, its counters do not tell",
                    needs="instrumenting every consumer of this queue: the broker tells to whom it hands out, not what is acknowledged",
                ),
                Rule(
                    "in_flight.uninstrumented",
                    _given(),
                    "handed out, says the broker; to whom was not seen",
                ),
            ),
        ),
        # From here on it rests on how things stand now.
        _HELD,
        _NOBODY,
    ),
)

RULES: Final[tuple[Rule, ...]] = tuple(
    rule for group in (_ANYBODY, _RECEIVED, _NOT_RECEIVED) for rule in group.flat()
)
"""All rules in the order in which they are asked."""

CAUSES: Final[Mapping[str, Rule]] = {rule.cause: rule for rule in reversed(RULES)}
"""The first rule of each cause: what the cause says, advises and needs is the same in all of them."""

SIGNALS_USED: Final = frozenset(condition.removeprefix("not ") for rule in RULES for condition in rule.when)
"""The names of all signals that some rule asks for."""


def sentence(cause: str, detail: str = "") -> str:
    """Return a cause in words, with what the evidence adds to it."""
    rule = CAUSES.get(cause)
    says = rule.says if rule else cause
    return f"{says}: {detail}" if detail else says


def by_silence(cause: str) -> bool:
    """Whether a cause rests on somebody not having said anything."""
    rule = CAUSES.get(cause)
    return rule is not None and rule.by_silence


def table() -> str:
    """Return every cause as a table for a README: what it says, what to do or what is missing, whether it rests on silence."""
    head = "| cause | in words | what to do, or what is missing |\n|---|---|---|\n"
    return head + "".join(
        f"| `{cause}` | {_sentence_case(rule.says)}{' *' if rule.by_silence else ''} | {_remedy(rule)} |\n"
        for cause, rule in sorted(CAUSES.items())
    )


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def _remedy(rule: Rule) -> str:
    return rule.advice or (f"Needed: {rule.needs}." if rule.needs else "")
