"""What to do about each cause of non-delivery, in one sentence; and what would settle a doubt."""

from collections.abc import Mapping
from typing import Final

ADVICE: Final[Mapping[str, str]] = {
    "dead_lettered.copy": "Read the dead-letter queue, mend what the reason names, and send the copies again.",
    "dead_lettered.term": "Look at the attempt's error: the handler refused the message for good.",
    "dead_lettered.max deliveries": "Mend the handler's error, then send the message again: the server will not.",
    "dead_lettered.dropped": "Read the dead-letter queue: the handler gave the message back until the broker gave up.",
    "dead_lettered.reject": "Read the dead-letter queue and the attempt's error.",
    "dead_lettered.expired": "Add consumers or a longer time to live; the message lies in the dead-letter queue.",
    "dead_lettered.overflow": "Add consumers or a longer queue; the message lies in the dead-letter queue.",
    "expired": "Add consumers, or give messages a longer time to live or the queue a dead-letter exchange.",
    "evicted.log": "Speed the receiver up or keep messages longer: retention removed what it had not read.",
    "evicted.overflow": "Add consumers, raise the queue's limit, or give it a dead-letter exchange.",
    "evicted.compacted": "Nothing, if only the latest record of a key matters; else turn the topic's compaction off.",
    "returned": "Bind a queue, start the receiver, or correct the address the sender used.",
    "refused": "Look at the broker's answer in the reason; the sender has to send again.",
    "refused.aborted": "Nothing, if the sender aborted on purpose: readers of committed records never see it.",
    "duplicate": "Nothing, if the sender repeated itself on purpose: the first copy was taken.",
    "unconfirmed": "Look whether a receiver got it before sending again: the broker's answer was lost.",
    "skipped": "Have the consumer commit only what it has processed, and replay the range that was passed over.",
    "skipped.sought": "Ask who moved the consumer, and replay the range that was passed over if it is wanted.",
    "failed.reject": "Look at the attempt's error, and give the queue a dead-letter exchange so that nothing is thrown away.",
    "failed.answered": "Look at the error the callee answered with.",
    "failed.ack": "The handler failed after acknowledging: acknowledge last, and send the message again.",
    "failed.committed": "The handler failed and the group went on: replay this offset once it is mended.",
    "failed.handler": "Mend the handler's error and send the message again.",
    "failed.callee unseen": "Look at the error the caller was answered with.",
    "stuck.open": "Look where the handler hangs: the flow shows what it was doing last.",
    "stuck.unanswered": "Look whether the callee still works on it, and give the call a timeout; instrument the callee to see.",
    "stuck.unsettled": "Have the handler acknowledge or commit what it has processed.",
    "stuck.elsewhere": "Look at the consumers of this receiver: one holds the message and does not settle it.",
    "overdue.given back": "Look why the handler gives the message back, and whether a consumer is there to take it again.",
    "overdue.came back": "Look why its consumer went away, and whether another is there to take it again.",
    "overdue.owed": "Look whether the receiver runs and keeps up.",
    "overdue.fetched": "Add consumers or let each fetch fewer messages at a time: a busy one sits on it.",
    "overdue.held": "Start the receiver, or add consumers: the broker still holds the message for it.",
    "no_receiver": "Subscribe somebody, or stop sending what nobody reads.",
    "no_receiver.broker": "Subscribe somebody, or stop sending what nobody reads.",
    "no_receiver.declared": "Create or start the receiver, bind it to the destination, or correct its name where it is declared.",
    "overdue.declared": "Look whether the receiver runs under the name it is declared by; watching the broker would tell more.",
    "lost.gone": "The receiver was deleted with messages waiting: send them again to whoever replaces it.",
    "lost.dropped": "Ask who purged the queue; the message has to be sent again.",
    "lost.given up": "Give the queue a dead-letter exchange, mend the handler, and send the message again.",
}
"""Cause → what to do. Causes of `unknown` are in MISSING."""

MISSING: Final[Mapping[str, str]] = {
    "unknown.not held": "instrumenting the subscriber, or JetStream, which keeps what was not received",
    "unknown.undecided": "the word of the receiver or of the broker",
    "unknown.sender unseen": "instrumenting the sender",
    "unknown.shared": "instrumenting every consumer of this receiver",
    "unknown.witness away": "the broker's witness: see `trouble` under /healthz",
    "unknown.witness blind": "what the broker's witness lacks: see `trouble` under /healthz",
    "unknown.headers": "the message's headers, by which its exchange decides: instrumenting the receiver",
    "unknown.gone": "instrumenting every consumer the receiver had before it was deleted",
    "unknown.counts anew": "the receiver's word: the queue's counters began anew since it was sent",
    "unknown.some dropped": "the receiver's word: the queue dropped some and kept others within a few seconds",
    "unknown.declared": "instrumenting the receiver: it was first seen, or may be seen under another name, after it was sent",
    "unknown.uncounted": "its consumer's word: instrument every consumer of this queue, to which dead letters come uncounted",
    "unknown.handed": "instrumenting every consumer of this queue: the broker tells to whom it hands out, not what is acknowledged",
    "unknown.unheard": "the receiver's word: the collector was not listening to the server's advisories then",
    "unknown.hidden": "what its broker's witness could not see, rights it lacks most often: see `trouble` under /healthz",
    "unknown.superseded": "the record's key, to see whether a later one took its place: look into the topic",
    "unknown.silent peer": "instrumenting the peer",
}
"""Cause of `unknown` → what would settle it."""


def advice_on(cause: str) -> str:
    """Return what to do about a cause, empty where nothing is to be done."""
    missing = MISSING.get(cause)
    return ADVICE.get(cause, f"To know, hopwatch needs {missing}." if missing else "")
