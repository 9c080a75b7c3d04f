-- Stage: the verdict on every row of `pairs`, into `deliveries`: the table of DESIGN §5, read top to bottom.
-- Parameters: now; grace in seconds.
-- stage: witnessed
CREATE OR REPLACE TEMPORARY TABLE deliveries ENGINE = Memory AS
WITH
-- What messages, their receivers and brokers showed, side by side. A message nobody is known to be owed has no receiver.
joined AS
(
    SELECT
        *,
        receivers[indexOf(receivers.1, receiver)] AS r
    FROM witnessed
    INNER JOIN messages USING (message)
),
shown AS
(
    SELECT
        * EXCEPT (receivers, r),
        r.2 AS consumer, r.3 AS attempts, r.4 AS received_at, r.5 AS last_started_at, r.6 AS last_ended_at,
        r.7 AS last_settle, r.8 AS last_failed, r.9 AS last_error, r.10 AS last_reason, r.11 AS pending,
        r.12 AS acknowledged, r.13 AS acknowledged_by, r.14 AS acknowledged_at, r.15 AS processed,
        r.16 AS dead, r.17 AS dead_reason, r.18 AS dead_at, r.19 AS receiver_off_us
    FROM joined
),
weighed AS
(
    SELECT
        *,
        before.1 AS published_before, before.2 AS handed_before, before.3 AS acked_before, before.4 AS held_before,
        -- Since when, and until when, the firehose was heard without a gap.
        (SELECT max(at) FROM told WHERE message = toFixedString('', 16)) AS heard_from,
        (SELECT max(at) FROM watches WHERE system = 'rabbitmq-firehose' AND ok) AS heard_until,
        {now:DateTime64(6)} - toIntervalMillisecond(allowed_s * 1000) AS deadline,
        {now:DateTime64(6)} - toIntervalMillisecond({grace:Float64} * 1000) AS grace_over,
        last_settle IN ('nack', 'requeue') AS given_back,
        -- Given back for later on purpose: it waits for nobody before that.
        if(last_settle = 'nack', toFloat64OrZero(extract(last_reason, '^again in ([0-9.]+) s')), 0) AS delay,
        if(last_settle IN ('nack', 'requeue'), last_ended_at + toIntervalMillisecond(toInt64(least(delay, 1e9) * 1000)), sent_at) AS waits_since,
        -- Passed: the next offset to read lies beyond this one. A commit older than the message is of another topic of that name.
        if(next_commit > offset, next_commit_last_at >= first_at - INTERVAL 1 MINUTE, 0) AS passed_exactly,
        if(last_commit > offset, last_commit_at >= first_at - INTERVAL 1 MINUTE, 0) AS passed_by_now,
        if(now_at.state = 'hidden', 0, looked_at >= {now:DateTime64(6)} - INTERVAL 30 SECOND) AS sees,
        -- Counters of a queue lag behind the messages by as much as the node's statistics do, five seconds by default, and
        -- each by its own time: they say something once they moved after the message and have stood still for longer.
        now_at.at >= greatest(confirmed_at, last_ended_at) AS counted,
        looked_at >= now_at.at + INTERVAL 7 SECOND AS at_rest,
        -- A restart of the broker sets them to nought, and so does declaring a queue anew.
        if(known_before, abs(now_at.first - counted_before) < 10 AND now_at.published >= published_before, 1) AS comparable,
        -- Its time to live is over: the queue's, or its own.
        if(now_at.ttl_ms >= 0, addMilliseconds(sent_at, now_at.ttl_ms) <= now_at.at, 0) OR if(expires_at > 0, expires_at <= now_at.at, 0) AS outlived,
        -- Every handing-over of this message by the broker was heard; none is none.
        if(traced AND heard_from > 0, heard_from < sent_at AND heard_until >= now_at.at + INTERVAL 5 SECOND, 0) AS heard,
        -- What was never handed out waits in the order it came in: the latest ones.
        now_at.published - now_at.waiting AS left_by_now,
        now_at.published - published_before AS published_since,
        held_before + published_since - (now_at.acked - acked_before) - now_at.waiting - now_at.in_hand AS dropped_since
    FROM shown
),
timed AS
(
    SELECT
        *,
        multiIf(offset < 0, 0, passed_exactly, 1, passed_by_now) AS passed,
        if(passed_exactly, next_commit_at, last_commit_at) AS passed_at,
        waits_since < deadline AS waits_too_long,
        last_started_at < deadline AS takes_too_long,
        -- The last time its consumer was moved over it, forward or back, if that was not in a topic of that name before.
        arrayFirst(m -> m.1 >= first_at - INTERVAL 1 MINUTE AND offset >= least(m.2, m.3) AND offset < greatest(m.2, m.3), moves) AS move,
        move.3 > move.2 AS moved_past,

        -- What the broker says, in a word. Of a log it knows every single message, of a queue only how many there are.
        multiIf(
            sighted != '',                                          sighted,
            now_at.at = 0,                                          '',
            -- Deleted before it was sent: what was there then had other messages.
            if(system != 'rabbitmq', if(now_at.state = 'gone', now_at.at < sent_at, 0), 0), '',
            -- What a log showed of a receiver while that was there stays true.
            if(offset >= 0, there_at.next >= 0, 0), multiIf(
                arrayExists(b -> b.1 > offset AND b.2 <= offset, begins), 'evicted',
                -- JetStream tells only once, and to those who listen, what it gave up or was told to.
                there_at.done > offset,
                    if(if(system = 'nats', arrayExists(b -> b.3 <= offset AND b.4 > offset, begins), 1), 'done', 'ended unheard'),
                -- It had gone on reading: consumers that tell nothing may have read this too before it was deleted.
                now_at.state = 'gone',
                    if(tells, 'gone', if(there_at.next > arrayMin(arrayMap(b -> if(b.1 < 0, there_at.next, b.2), begins)), 'gone, shared', 'gone')),
                -- Handed out, not settled, and in nobody's hands: JetStream has given it up.
                there_at.next > offset,
                    if(if(system = 'nats', if(there_at.in_hand = 0, there_at.first <= offset, 0), 0), 'max_deliveries', 'in hand'),
                                                                    'holds'),
            system != 'rabbitmq',                                   if(now_at.state = 'gone', 'gone', ''),
            if(now_at.state = 'gone', 1, gone_at > greatest(sent_at, confirmed_at)),
                if(if(notEmpty(handed_at), 0, there_at.waiting + there_at.in_hand > 0 OR tells OR there_at.handed <= handed_before OR heard), 'gone', 'gone, shared'),
            now_at.waiting < 0,                                     '',
            if(counted AND at_rest, NOT comparable, 0), multiIf(
                now_at.waiting > 0,                                 'queued',
                now_at.in_hand > 0,                                 'in hand',
                                                                    'counts anew'),
            -- The firehose says of this very message whether it was handed out; counters, whether all that were are settled.
            if(notEmpty(handed_at), NOT tells, 0),
                if(if(counted AND at_rest, if(now_at.in_hand = 0, now_at.handed - handed_before = now_at.acked - acked_before, 0), 0), 'drained', 'handed'),
            if(counted AND at_rest AND heard AND empty(handed_at), now_at.waiting = 0, 0), 'dropped',
            if(counted AND at_rest AND dropped_since > 0 AND now_at.waiting > 0, published_before < left_by_now, 0), multiIf(
                if(published_then <= left_by_now, if(now_at.handed = handed_before, 1, if(tells, now_at.in_hand = 0, 0)), 0), 'dropped',
                                                                    'some dropped'),
            if(counted AND at_rest, now_at.waiting > 0, 0), multiIf(
                -- What waits may have come in uncounted and pushed it out.
                if(fed, now_at.max_length >= 0 OR outlived, 0),     'uncounted',
                if(tells OR heard, 1, now_at.handed = handed_before), 'queued',
                -- Consumers that tell nothing took messages since; what they took came before what still waits.
                fed,                                                'uncounted',
                if(now_at.in_hand = 0, published_then <= left_by_now, 0), 'drained',
                                                                    'queued'),
            now_at.waiting > 0,                                     'queued',
            now_at.in_hand > 0,                                     'in hand',
            NOT counted OR NOT at_rest,                             '',
            -- Where messages come in uncounted, the sum says nothing; but if none was handed out, all that came are gone.
            if(dropped_since <= 0, fed, 0),                         if(now_at.handed = handed_before, 'dropped', 'uncounted'),
            dropped_since <= 0,                                     'drained',
            if(tells, 1, now_at.handed = handed_before),            'dropped',
                                                                    'shared') AS broker
    FROM weighed
),

-- The verdicts, top to bottom: the first line that holds decides. A finding is a verdict and, after the point, on what ground.
-- Two tables, one for receivers that got it and one for those that did not, in the same order.
-- (Nested, and with if() rather than AND and OR where something is compared with a constant: for each of these comparisons the
-- planner hashes all the steps below.)
judged AS
(
    SELECT
        *,
        multiIf(
            acknowledged,                              if(call, 'settled.answered', concat('settled.', acknowledged_by)),
            if(processed, passed, 0),                  'settled.committed',
            dead,                                      'dead_lettered.copy',
            broker = 'max_deliveries',                 'dead_lettered.max deliveries',
            broker = 'terminated',                     'dead_lettered.term',

            attempts > 0, multiIf(
                if(broker = 'done', if(last_failed, 0, if(processed, 1, system = 'nats')), 0), 'settled.done',
                last_settle = 'term',                  'dead_lettered.term',
                if(broker = 'ended unheard', NOT last_failed OR given_back, 0), 'unknown.unheard',
                if(broker = 'dropped', last_settle IN ('nack', 'requeue'), 0), multiIf(
                    outlived,                          if(now_at.dead_letters, 'dead_lettered.expired', 'expired'),
                                                       if(now_at.dead_letters, 'dead_lettered.dropped', 'lost.given up')),
                -- Its consumer went away: nobody has it in hand, and the queue holds it again.
                if(if(broker = 'queued', now_at.in_hand = 0, 0), now_at.at >= last_started_at AND NOT given_back AND last_settle IN ('', 'none'), 0),
                                                       if(waits_too_long, 'overdue.came back', 'waiting.came back'),
                given_back, multiIf(
                    waits_since > {now:DateTime64(6)}, 'waiting.delayed',
                    waits_too_long,                    'overdue.given back',
                                                       'waiting.given back'),
                if(call, last_settle = 'none', last_ended_at = 0),
                                                       multiIf(streaming, 'in_flight.streaming', takes_too_long, 'stuck.open', 'in_flight.open'),
                last_settle = 'reject',                if(now_at.dead_letters, 'dead_lettered.reject', 'failed.reject'),
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
                    outcome IN ('', 'sent'),           multiIf(streaming, 'in_flight.streaming', waits_too_long, 'stuck.unanswered', 'in_flight.unanswered'),
                    outcome != 'confirmed',            'unknown.undecided',
                    publish_failed,                    'failed.callee unseen',
                                                       'settled.callee unseen'),
                moved_past,                            'skipped.sought',
                broker = 'compacted',                  'evicted.compacted',
                broker = 'aborted',                    'refused.aborted',
                broker IN ('evicted', 'removed'),      'evicted.log',
                -- Nobody but the team says that it was owed: a log tells of this message, counters of a queue do not.
                if(declared IN ('alone', 'doubtful'), if(system = 'rabbitmq', 1, broker NOT IN ('holds', 'in hand', 'ended unheard')), 0), multiIf(
                    sent_at >= grace_over,             'waiting.declared',
                    if(looked_at > sent_at, if(position(receiver, '/') > 0, blind_to_streams, blind) = '', 0), multiIf(
                        if(passed, 1, broker = 'done'), if(tells, 'skipped', 'unknown.declared'),
                        declared = 'alone',            'no_receiver.declared',
                        waits_too_long,                'unknown.declared',
                                                       'waiting.declared'),
                    NOT waits_too_long,                'waiting.declared',
                    NOT watched,                       'overdue.declared',
                    looked_at > sent_at,               'unknown.witness blind',
                                                       'unknown.witness away'),
                -- A commit may be seen before the processing it is about.
                passed OR broker IN ('done', 'ended unheard'), multiIf(
                    if(passed, passed_at, now_at.at) >= {now:DateTime64(6)} - INTERVAL 3 SECOND, 'waiting.owed',
                    broker = 'ended unheard',          'unknown.unheard',
                    if(system = 'nats', 1, if(tells, 0, broker != '')), 'settled.elsewhere',
                    now_at.state = 'compacted',        'unknown.superseded',
                                                       'skipped'),
                broker = 'gone',                       'lost.gone',
                broker = 'gone, shared',               'unknown.gone',
                broker = 'counts anew',                'unknown.counts anew',
                broker = 'some dropped',               'unknown.some dropped',
                broker = 'uncounted',                  'unknown.uncounted',
                broker = 'dropped', multiIf(
                    outlived,                          if(now_at.dead_letters, 'dead_lettered.expired', 'expired'),
                    now_at.max_length >= 0,            if(now_at.dead_letters, 'dead_lettered.overflow', 'evicted.overflow'),
                                                       'lost.dropped'),
                broker = 'drained',                    'settled.elsewhere',
                broker = 'shared',                     'unknown.shared',
                broker = 'handed',                     if(if(waits_too_long, 1, if(counted AND at_rest, now_at.in_hand = 0, 0)), 'unknown.handed', 'in_flight.elsewhere'),
                -- From here on it rests on how things stand now.
                if(watched AND NOT sees, receiver != '', 0),
                    multiIf(NOT waits_too_long, 'waiting.owed', now_at.state = 'hidden', 'unknown.hidden', 'unknown.witness away'),
                if(tells, broker = 'in hand', 0),      if(waits_too_long, 'overdue.fetched', 'waiting.fetched'),
                broker = 'in hand',                    if(waits_too_long, 'stuck.elsewhere', 'in_flight.elsewhere'),
                broker IN ('holds', 'queued'),         if(waits_too_long, 'overdue.held', 'waiting.held'),
                owed, multiIf(
                    NOT waits_too_long,                'waiting.owed',
                    held,                              'overdue.owed',
                    system = 'nats',                   'unknown.not held',
                                                       'overdue.owed'),
                NOT sender_seen,                       'unknown.sender unseen',
                receiver != '',                        'unknown.undecided',
                system IN ('websocket', 'graphql'),    'unknown.silent peer',
                sent_at >= grace_over,                 'waiting.nobody yet',
                maybe_owed,                            'unknown.headers',
                if(watched, looked_at > sent_at, traced), if(if(traced, 1, blind = ''), 'no_receiver.broker', 'unknown.witness blind'),
                watched,                               if(waits_too_long, 'unknown.witness away', 'waiting.nobody yet'),
                                                       'no_receiver')) AS finding
    FROM timed
)

-- The same in words, and since when.
SELECT
    message,
    receiver,
    verdict,
    finding AS cause,
    concat(
        transform(finding,
            ['settled.answered', 'settled.ack', 'settled.auto', 'settled.', 'settled.committed', 'settled.callee unseen',
             'dead_lettered.copy', 'dead_lettered.term', 'returned', 'refused', 'unconfirmed', 'duplicate', 'skipped',
             'failed.reject', 'failed.answered', 'failed.ack', 'failed.committed', 'failed.handler', 'failed.callee unseen',
             'stuck.unsettled', 'stuck.open', 'in_flight.unsettled', 'in_flight.open', 'overdue.given back', 'waiting.given back',
             'unknown.not held', 'overdue.owed', 'waiting.owed', 'no_receiver', 'waiting.nobody yet', 'unknown.undecided', 'unknown.sender unseen',
             -- On the broker's word.
             'settled.done', 'settled.elsewhere', 'dead_lettered.max deliveries', 'dead_lettered.dropped', 'dead_lettered.reject',
             'dead_lettered.expired', 'dead_lettered.overflow', 'expired', 'evicted.log', 'evicted.overflow', 'lost.gone', 'lost.dropped',
             'lost.given up', 'unknown.shared', 'stuck.elsewhere', 'in_flight.elsewhere', 'overdue.held', 'waiting.held',
             'unknown.witness away', 'no_receiver.broker', 'unknown.silent peer',
             'unknown.witness blind', 'waiting.delayed', 'overdue.fetched', 'waiting.fetched', 'unknown.headers', 'unknown.gone', 'unknown.counts anew',
             'unknown.some dropped', 'unknown.uncounted', 'unknown.handed', 'overdue.came back', 'waiting.came back',
             'waiting.declared', 'overdue.declared', 'no_receiver.declared', 'unknown.declared',
             'in_flight.streaming', 'in_flight.unanswered', 'stuck.unanswered',
             'skipped.sought', 'unknown.unheard', 'unknown.hidden', 'evicted.compacted', 'refused.aborted', 'unknown.superseded'],
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
             'the evidence does not decide: needs the broker''s', 'the sender has not been seen',
             'processed, and the broker counts it as done', 'the broker counts it as done; who processed it was not seen',
             'the broker gave it up after too many deliveries', 'given back until the broker dead-lettered it',
             'rejected, and the queue has a dead-letter exchange', 'its time to live ended in the queue, which has a dead-letter exchange',
             'the queue was too long, and has a dead-letter exchange', 'its time to live ended before anyone read it',
             'the broker removed it from the log before this receiver read it', 'the queue was too long: the broker dropped it',
             'the receiver was deleted before it had read it', 'the queue no longer holds it, and counted nobody it was handed to',
             'given back, and the queue no longer holds it',
             'the queue no longer holds it; consumers that tell nothing took messages from it, and this may be one of them',
             'handed out for longer than the deadline, says the broker; to whom was not seen', 'handed out, says the broker; to whom was not seen',
             'the broker has held it for longer than the deadline', 'the broker holds it', 'the broker cannot be asked',
             'the broker knows nobody who was owed it', 'the peer does not tell what it receives',
             'no receiver is known, but the broker''s witness does not see everything', 'given back, to be delivered again later on purpose',
             'fetched by a client that has not begun on it within the deadline', 'fetched by a client that has not begun on it',
             'where it went depends on more than its routing key, its headers perhaps: needs a consumer''s word',
             'the receiver was deleted; consumers that tell nothing took messages from it, and this may be one of them',
             'the broker or the queue began anew after it was sent and counts from nought: needs its consumer''s word',
             'the queue dropped some messages and holds others; which of them this is only its consumer can tell',
             'dead letters come to this queue uncounted: whether this one was taken, was dropped or still waits, its counters cannot tell',
             'the broker handed it out; whether it was settled, its counters do not tell',
             'its consumer went away, and the queue has held it again for longer than the deadline',
             'its consumer went away without settling it; the queue holds it again',
             'declared to be owed it, and no sign of delivery yet', 'declared to be owed it, and no sign of delivery within the deadline (no broker evidence)',
             'declared to be owed it, but the broker knew of no such receiver when it was sent',
             'declared to be owed it; whether this receiver was there in time the broker does not tell',
             'its answer has begun and goes on: a stream may last', 'called and not yet answered; the callee was not seen',
             'called and not answered within the deadline; the callee was not seen',
             'its consumer was moved past it by a seek',
             'the server counts it as ended; whether it was acknowledged, terminated, given up or removed was told while the witness was not listening',
             'the witness can no longer see this receiver',
             'a later record of the same key took its place before this receiver read it', 'its transaction was aborted',
             'the group committed past it, but the topic is compacted: a later record of the same key may have taken its place before'],
            ''),
        if(detail = '', '', concat(': ', detail))) AS why,
    least({now:DateTime64(6)}, multiIf(
        finding = 'settled.committed', passed_at,
        if(acknowledged OR call, 0, verdict = 'settled'), now_at.at,
        sighted != '', sighted_at,
        verdict IN ('lost', 'expired', 'evicted'), now_at.at,
        endsWith(finding, 'callee unseen'), confirmed_at,
        verdict = 'settled', acknowledged_at,
        finding = 'dead_lettered.copy', dead_at,
        verdict IN ('dead_lettered', 'failed'), last_ended_at,
        verdict IN ('returned', 'refused', 'unconfirmed'), confirmed_at,
        finding = 'skipped.sought', move.1,
        verdict = 'skipped', passed_at,
        verdict IN ('stuck', 'in_flight'), if(attempts > 0, last_started_at, waits_since),
        finding = 'waiting.delayed', last_ended_at,
        verdict IN ('overdue', 'waiting'), waits_since,
        sender_seen, sent_at,
        first_at)) AS since,
    -- When what is open turns overdue or stuck; 1970: nothing is.
    multiIf(
        finding = 'in_flight.streaming', toDateTime64(0, 6, 'UTC'),
        verdict IN ('stuck', 'in_flight') AND attempts > 0, last_started_at + toIntervalMillisecond(allowed_s * 1000),
        verdict IN ('stuck', 'in_flight', 'overdue', 'waiting', 'unknown') AND sender_seen, waits_since + toIntervalMillisecond(allowed_s * 1000),
        toDateTime64(0, 6, 'UTC')) AS due_at,
    arrayFilter(w -> w != '', [if(sender_seen, if(producer != '', 'producer', ''), ''), if(if(attempts + dead > 0, 1, finding = 'skipped.sought'), 'consumer', ''),
        if(if(traced, 1, broker != '') OR finding IN ('no_receiver.broker', 'unknown.headers', 'no_receiver.declared', 'unknown.declared'), 'broker', '')]) AS witnesses,
    system, destination, producer, consumer, trace_id, flow, keys, partition, offset, pending, conversation, attempts, call, owed, declared,
    outcome, publish_reason,
    sender_seen, first_at, sent_at, received_at, sender_off_us, receiver_off_us,
    if(verdict = 'settled', since, toDateTime64(0, 6, 'UTC')) AS settled_at,
    last_error AS error, greatest(last_failed, publish_failed) AS failed
FROM
(
    SELECT
        *,
        if(finding = 'duplicate', 'refused', splitByChar('.', finding)[1]) AS verdict,
        multiIf(
            finding = 'dead_lettered.copy', dead_reason,
            not_published, if(publish_reason != '', publish_reason, publish_error),
            finding = 'failed.callee unseen', publish_error,
            finding = 'unknown.witness away', watch_trouble,
            finding IN ('unknown.witness blind', 'unknown.hidden'), blind,
            match(finding, '^failed'), if(last_error = '', last_reason, last_error),
            last_reason != '', if(given_back, last_reason, if(match(finding, '^failed|term$'), last_reason, '')),
            '') AS detail
    FROM judged
)
