-- Stage: the verdict on every row of `evidence`, into `deliveries`: the table of DESIGN §5, read top to bottom.
-- Parameters: now; deadline and grace in seconds.
CREATE OR REPLACE TEMPORARY TABLE deliveries ENGINE = Memory AS
WITH
weighed AS
(
    SELECT
        *,
        {now:DateTime64(6)} - toIntervalMillisecond({deadline:Float64} * 1000) AS deadline,
        {now:DateTime64(6)} - toIntervalMillisecond({grace:Float64} * 1000) AS grace_over,
        last_settle IN ('nack', 'requeue') AS given_back,
        if(last_settle IN ('nack', 'requeue'), last_ended_at, sent_at) AS waits_since,
        -- Passed: the next offset to read lies beyond this one. A commit older than the message is of another topic of that name.
        if(next_commit > offset, next_commit_last_at >= first_at - INTERVAL 1 MINUTE, 0) AS passed_exactly,
        if(last_commit > offset, last_commit_at >= first_at - INTERVAL 1 MINUTE, 0) AS passed_by_now
    FROM evidence
),
timed AS
(
    SELECT
        *,
        multiIf(offset < 0, 0, passed_exactly, 1, passed_by_now) AS passed,
        if(passed_exactly, next_commit_at, last_commit_at) AS passed_at,
        waits_since < deadline AS waits_too_long,
        last_started_at < deadline AS takes_too_long
    FROM weighed
),

-- The verdicts, top to bottom: the first line that holds decides. A finding is a verdict and, after the point, on what ground.
-- Two tables, one for receivers that got it and one for those that did not, in the same order.
-- (Nested rather than one list of ANDs: the planner's work grows with every AND over this many steps.)
judged AS
(
    SELECT
        *,
        multiIf(
            acknowledged,                              if(call, 'settled.answered', concat('settled.', acknowledged_by)),
            if(processed, passed, 0),                  'settled.committed',
            dead,                                      'dead_lettered.copy',

            attempts > 0, multiIf(
                last_settle = 'term',                  'dead_lettered.term',
                given_back,                            if(waits_too_long, 'overdue.given back', 'waiting.given back'),
                last_ended_at = 0,                     if(takes_too_long, 'stuck.open', 'in_flight.open'),
                last_settle = 'reject',                'failed.reject',
                last_failed, multiIf(
                    call,                              'failed.answered',
                    last_settle = 'ack',               'failed.ack',
                    passed,                            'failed.committed',
                                                       'failed.handler'),
                takes_too_long,                        'stuck.unsettled',
                                                       'in_flight.unsettled'),

            multiIf(
                not_published,                         outcome,     -- returned, refused, unconfirmed; nobody received it
                call, multiIf(
                    outcome != 'confirmed',            'unknown.undecided',
                    publish_failed,                    'failed.callee unseen',
                                                       'settled.callee unseen'),
                -- A commit may be seen before the processing it is about.
                passed,                                if(passed_at < {now:DateTime64(6)} - INTERVAL 3 SECOND, 'skipped', 'waiting.owed'),
                owed, multiIf(
                    NOT waits_too_long,                'waiting.owed',
                    held,                              'overdue.owed',
                    system = 'nats',                   'unknown.not held',
                                                       'overdue.owed'),
                NOT sender_seen,                       'unknown.sender unseen',
                receiver != '',                        'unknown.undecided',
                sent_at < grace_over,                  'no_receiver',
                                                       'waiting.nobody yet')) AS finding
    FROM timed
)

-- The same in words, and since when.
SELECT
    message,
    receiver,
    if(finding = 'duplicate', 'refused', splitByChar('.', finding)[1]) AS verdict,
    concat(
        transform(finding,
            ['settled.answered', 'settled.ack', 'settled.auto', 'settled.', 'settled.committed', 'settled.callee unseen',
             'dead_lettered.copy', 'dead_lettered.term', 'returned', 'refused', 'unconfirmed', 'duplicate', 'skipped',
             'failed.reject', 'failed.answered', 'failed.ack', 'failed.committed', 'failed.handler', 'failed.callee unseen',
             'stuck.unsettled', 'stuck.open', 'in_flight.unsettled', 'in_flight.open', 'overdue.given back', 'waiting.given back',
             'unknown.not held', 'overdue.owed', 'waiting.owed', 'no_receiver', 'waiting.nobody yet', 'unknown.undecided', 'unknown.sender unseen'],
            ['answered without error', 'acknowledged by the receiver', 'processed without error; this receiver needs no acknowledgement',
             'processed without error; this receiver does not report settlement', 'processed without error and committed past',
             'answered without error; the callee was not seen',
             'dead-lettered', 'terminated by the receiver', 'there was nowhere to route it', 'the broker did not take it', 'no answer to the send',
             'the broker dropped it as a duplicate of an earlier message', 'the group committed past it without a trace of processing',
             'rejected for good; no dead-lettered copy has been seen', 'answered with an error', 'acknowledged, but the handler failed',
             'committed past, but the handler failed', 'the handler failed and nothing more is due', 'answered with an error; the callee was not seen',
             'processed, but not settled within the deadline', 'still being processed after the deadline', 'processed, not yet settled',
             'being processed', 'given back and not delivered again within the deadline', 'given back, to be delivered again',
             'this subscriber was never seen to get it, and a plain NATS subject keeps nothing: needs the broker''s evidence',
             'no sign of delivery within the deadline (no broker evidence)', 'no sign of delivery yet (no broker evidence)',
             'nobody is known to have been owed it (no broker evidence)', 'no sign of a receiver yet (no broker evidence)',
             'the evidence does not decide: needs the broker''s', 'the sender has not been seen'],
            ''),
        if(detail = '', '', concat(': ', detail))) AS why,
    multiIf(
        finding = 'settled.committed', passed_at,
        endsWith(finding, 'callee unseen'), confirmed_at,
        verdict = 'settled', acknowledged_at,
        finding = 'dead_lettered.copy', dead_at,
        verdict IN ('dead_lettered', 'failed'), last_ended_at,
        verdict IN ('returned', 'refused', 'unconfirmed'), confirmed_at,
        verdict = 'skipped', passed_at,
        verdict IN ('stuck', 'in_flight'), last_started_at,
        verdict IN ('overdue', 'waiting'), waits_since,
        sender_seen, sent_at,
        first_at) AS since,
    arrayFilter(w -> w != '', [if(sender_seen, 'producer', ''), if(attempts + dead > 0, 'consumer', '')]) AS witnesses,
    system, destination, producer, consumer, trace_id, flow, keys, partition, offset, pending, conversation, attempts, call, owed,
    outcome, publish_reason,
    sender_seen, first_at, sent_at, received_at,
    if(verdict = 'settled', since, toDateTime64(0, 6, 'UTC')) AS settled_at,
    last_error AS error, greatest(last_failed, publish_failed) AS failed
FROM
(
    SELECT
        *,
        multiIf(
            finding = 'dead_lettered.copy', dead_reason,
            not_published, if(publish_reason != '', publish_reason, publish_error),
            finding = 'failed.callee unseen', publish_error,
            match(finding, '^failed'), if(last_error = '', last_reason, last_error),
            last_reason != '', if(given_back, last_reason, if(match(finding, '^failed|term$'), last_reason, '')),
            '') AS detail
    FROM judged
)
