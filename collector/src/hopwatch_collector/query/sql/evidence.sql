-- Stage: what services showed of every message in `picked`: one row per message and receiver that got it or was owed it.
-- Parameters: since, from which on all picked messages have their first fact; clock_processes, clock_us (side by side: processes
-- whose clocks are off, and by how much) and clock_slack (the most seconds of them): all times are corrected.
-- stage: titles
-- Every step is read by one other only, as a mention of a WITH … AS (…) runs it again.
CREATE OR REPLACE TEMPORARY TABLE evidence ENGINE = Memory AS
WITH
-- The ledger's fold, finished: parts that have not been merged yet still hold several rows per key.
facts AS
(
    SELECT
        message, receiver, attempt, hop,
        transform(max(l.resource), {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0)) AS off_us,
        min(l.started_at) - toIntervalMicrosecond(off_us) AS started_at,
        if(max(l.ended_at) > 0, max(l.ended_at) - toIntervalMicrosecond(off_us), max(l.ended_at)) AS ended_at,
        max(l.call) AS call,
        max(l.system) AS system,
        max(l.destination) AS destination,
        max(l.service) AS service,
        max(l.peer) AS peer,
        max(l.trace_id) AS trace_id,
        max(l.flow) AS flow,
        toString(max(l.outcome)) AS outcome,
        toString(max(l.settle)) AS settle,
        max(l.failed) AS failed,
        max(l.dead) AS dead,
        max(l.error) AS error,
        max(l.reason) AS reason,
        max(l.partition) AS partition,
        max(l.offset) AS offset,
        max(l.pending) AS pending,
        max(l.conversation) AS conversation,
        groupUniqArrayArray(l.keys) AS keys
    FROM ledger AS l
    WHERE message IN (SELECT message FROM picked)
    GROUP BY message, receiver, attempt, hop
    HAVING max(l.moved) = 0
),

-- Per message and receiver ('': the sender) what was seen.
sides AS
(
    SELECT
        message,
        receiver,
        min(f.started_at) AS first_at,
        argMin(f.off_us, (f.dead, f.started_at)) AS off_us,
        max(f.ended_at) AS confirmed_at,
        max(f.call) AS call,
        max(f.system) AS system,
        max(f.destination) AS destination,
        max(f.service) AS service,
        max(f.peer) AS peer,
        max(f.trace_id) AS trace_id,
        max(f.flow) AS flow,
        max(f.outcome) AS outcome,
        max(f.partition) AS partition,
        max(f.offset) AS offset,
        max(f.conversation) AS conversation,
        groupUniqArrayArray(f.keys) AS keys,
        greatest(max(attempt), countIf(attempt > 0)) AS attempts,
        minIf(f.started_at, attempt > 0) AS received_at,
        argMax(f.started_at, (attempt, f.started_at)) AS last_started_at,
        argMax(f.ended_at, (attempt, f.started_at)) AS last_ended_at,
        argMax(f.settle, (attempt, f.started_at)) AS last_settle,
        argMax(f.failed, (attempt, f.started_at)) AS last_failed,
        argMax(f.error, (attempt, f.started_at)) AS last_error,
        argMax(f.reason, (attempt, f.started_at)) AS last_reason,
        argMax(f.pending, (attempt, f.started_at)) AS pending,
        -- Not everyone reports settlement: of such a receiver all that can be known is that it ended without error.
        countIf(attempt > 0 AND f.settle IN ('ack', 'auto', '') AND f.failed = 0 AND f.ended_at > 0) > 0 AS acknowledged,
        maxIf(f.settle, attempt > 0 AND f.settle IN ('ack', 'auto') AND f.failed = 0 AND f.ended_at > 0) AS acknowledged_by,
        minIf(f.ended_at, attempt > 0 AND f.settle IN ('ack', 'auto', '') AND f.failed = 0 AND f.ended_at > 0) AS acknowledged_at,
        countIf(attempt > 0 AND f.failed = 0 AND f.ended_at > 0) > 0 AS processed,
        max(f.dead) AS dead,
        maxIf(f.reason, f.dead = 1) AS dead_reason,
        minIf(f.started_at, f.dead = 1) AS dead_at
    FROM facts AS f
    GROUP BY message, receiver
),

-- Per message: what its sender saw, completed by what receivers saw where the sender was not seen; the receivers as an array.
messages AS
(
    SELECT
        message,
        countIf(receiver = '') > 0 AS sender_seen,
        countIf(receiver != '' AND attempts > 0) > 0 AS receiver_seen,
        minIf(s.first_at, receiver = '') AS sent_at,
        maxIf(s.confirmed_at, receiver = '') AS confirmed_at,
        sumIf(s.off_us, receiver = '') AS sender_off_us,
        min(s.first_at) AS first_at,
        max(s.call) AS call,
        max(s.call AND s.outcome = 'sent') AS streaming,      -- told while it was open: its answer had begun
        max(s.system) AS system,
        -- The callee knows the route; of a broker's message the sender knows best where it sent it.
        maxIf(s.destination, receiver = '') AS sender_says,
        maxIf(s.destination, receiver != '') AS receiver_says,
        if((call AND receiver_says != '') OR sender_says = '', receiver_says, sender_says) AS destination,
        maxIf(s.service, receiver = '') AS producer,
        maxIf(s.peer, receiver = '') AS peer,
        max(s.trace_id) AS any_trace,
        if(sender_seen, maxIf(s.trace_id, receiver = ''), any_trace) AS trace_id,
        max(s.flow) AS other_flow,
        if(other_flow = toFixedString('', 16), trace_id, other_flow) AS flow,
        maxIf(s.outcome, receiver = '') AS outcome,
        maxIf(s.last_reason, receiver = '') AS publish_reason,
        maxIf(s.last_error, receiver = '') AS publish_error,
        maxIf(s.last_failed, receiver = '') AS publish_failed,
        max(s.partition) AS partition,
        max(s.offset) AS offset,
        max(s.conversation) AS conversation,
        arraySort(groupUniqArrayArray(s.keys)) AS keys,
        groupArrayIf((receiver, s.service, attempts, received_at, last_started_at, last_ended_at, last_settle, last_failed, last_error,
            last_reason, pending, acknowledged, acknowledged_by, acknowledged_at, processed, dead, dead_reason, dead_at, off_us),
            receiver != '') AS receivers
    FROM sides AS s
    GROUP BY message
),

-- All pairs there is anything to say about: receivers that were seen, and those owed the message because they were entitled to
-- its destination when it was sent. A message nobody is known to be owed has one pair without a receiver.
-- (Steps are small because the engine works an alias out anew wherever it is mentioned in the same step.)
titled AS
(
    SELECT
        m.*,
        -- Entitled when the broker took it, which is some time between the call and its answer.
        arrayFilter(t -> greatest(m.sent_at, m.confirmed_at) >= t.3 AND m.sent_at <= t.4, titles) AS entitled_then,
        arrayFilter(t -> NOT t.5 AND NOT t.6 AND NOT t.7, entitled_then) AS plain,
        if(notEmpty(plain), plain, arrayFilter(t -> t.5, entitled_then)) AS valid,
        if(notEmpty(valid) OR traced, 0, arrayExists(t -> t.6, entitled_then)) AS maybe_owed,
        arrayFilter(t -> t.7, entitled_then) AS expected,
        -- Titles of then, whatever they are worth, and of a little later: brokers are not asked all the time.
        arrayFilter(t -> NOT t.7 AND t.3 <= m.sent_at + INTERVAL 30 SECOND AND m.sent_at <= t.4, titles) AS near,
        -- Where the broker says of this very message where it went, no title counts.
        arrayDistinct(arrayConcat(routed, handed.1)) AS went_to,
        if(receiver_seen, 0, outcome IN ('returned', 'refused', 'duplicate', if(empty(routed), 'unconfirmed', ''))) AS not_published,
        receivers.1 AS seen
    FROM
    (
        SELECT *
        FROM messages
        LEFT JOIN
        (
            SELECT
                message,
                minIf(addMilliseconds(at, number), kind = 'ttl') AS expires_at,
                countIf(kind = 'published') > 0 AS traced,
                groupUniqArrayIf(1000)(toString(t.receiver), kind = 'routed') AS routed,
                groupArrayIf(1000)((toString(t.receiver), at), kind = 'handed') AS handed
            FROM told AS t
            WHERE message IN (SELECT message FROM picked)
            GROUP BY message
        ) AS told_of USING (message)
    ) AS m
    LEFT JOIN titles AS t ON m.system = t.system AND m.destination = t.destination
),
paired AS
(
    SELECT
        *,
        arrayFilter(name -> NOT has(seen, name), multiIf(
            not_published, [],
            traced, arrayDistinct(arrayConcat(expected.1, went_to)),
            NOT sender_seen, [],
            empty(expected), arrayDistinct(valid.1),
            -- A NATS client that only the server knows of may be the plain subscriber that is declared.
            arrayDistinct(arrayConcat(expected.1, arrayFilter(t ->
                NOT startsWith(t.1, 'client ') OR NOT arrayExists(e -> endsWith(e.1, concat(':', t.8)), expected), valid).1)))) AS unseen
    FROM titled
),
pairs AS
(
    SELECT
        *,
        arrayJoin(multiIf(
            notEmpty(seen) OR notEmpty(unseen), arrayConcat(seen, unseen),
            call AND outcome IN ('confirmed', 'sent', ''), [peer],
            [''])) AS receiver
    FROM paired
),

-- Kafka: commits since the first of the picked messages; and where each group stands now.
committed AS
(
    SELECT
        destination, receiver, partition, offset,
        transform(max(c.resource), {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0)) AS off_us,
        min(c.at) - toIntervalMicrosecond(off_us) AS at,
        max(c.last_at) - toIntervalMicrosecond(off_us) AS last_at
    FROM commits AS c
    WHERE c.last_at >= {since:DateTime64(6)} - toIntervalSecond(60 + {clock_slack:UInt32})
        AND destination IN (SELECT destination FROM ledger WHERE system = 'kafka' AND message IN (SELECT message FROM picked))
    GROUP BY destination, receiver, partition, offset
),
standing AS
(
    SELECT destination, receiver, partition, argMax(c.offset, c.last_at) AS offset, max(c.last_at) AS at
    FROM committed AS c
    GROUP BY destination, receiver, partition
),

evidence AS
(
    SELECT
        p.message AS message, p.receiver AS receiver, p.owed AS owed, p.held AS held, p.declared AS declared, p.maybe_owed AS maybe_owed,
        p.sender_seen AS sender_seen, p.not_published AS not_published, p.receiver_seen AS receiver_seen, p.sent_at AS sent_at, p.confirmed_at AS confirmed_at,
        p.first_at AS first_at, p.expires_at AS expires_at, p.traced AS traced, p.handed_at AS handed_at, p.call AS call, p.streaming AS streaming, p.system AS system, p.destination AS destination, p.producer AS producer,
        p.peer AS peer, p.trace_id AS trace_id, p.flow AS flow, p.outcome AS outcome, p.publish_reason AS publish_reason,
        p.publish_error AS publish_error, p.publish_failed AS publish_failed, p.partition AS partition, p.offset AS offset,
        p.conversation AS conversation, p.keys AS keys,
        p.r.2 AS consumer, p.r.3 AS attempts, p.r.4 AS received_at, p.r.5 AS last_started_at, p.r.6 AS last_ended_at,
        p.r.7 AS last_settle, p.r.8 AS last_failed, p.r.9 AS last_error, p.r.10 AS last_reason, p.r.11 AS pending,
        p.r.12 AS acknowledged, p.r.13 AS acknowledged_by, p.r.14 AS acknowledged_at, p.r.15 AS processed,
        p.r.16 AS dead, p.r.17 AS dead_reason, p.r.18 AS dead_at, p.sender_off_us AS sender_off_us, p.r.19 AS receiver_off_us,
        c.offset AS next_commit, c.at AS next_commit_at, c.last_at AS next_commit_last_at,
        s.offset AS last_commit, s.at AS last_commit_at
    FROM
    (
        SELECT
            *,
            has(if(traced, went_to, valid.1), receiver) AS owed,
            if(traced, owed, arrayExists(t -> t.1 = receiver AND t.2, valid)) AS held,
            arrayMap(h -> h.2, arrayFilter(h -> h.1 = receiver, handed)) AS handed_at,
            -- A receiver that is declared, others may know of too, or of one that could be it: a NATS client of the same subject.
            multiIf(
                NOT has(expected.1, receiver),                                                               '',
                has(valid.1, receiver),                                                                      'confirmed',
                has(near.1, receiver),                                                                       'doubtful',
                arrayExists(t -> startsWith(t.1, 'client ') AND endsWith(receiver, concat(':', t.8)), near), 'doubtful',
                                                                                                             'alone') AS declared,
            receivers[indexOf(seen, receiver)] AS r
        FROM pairs
    ) AS p
    ASOF LEFT JOIN committed AS c
        ON p.destination = c.destination AND p.receiver = c.receiver AND p.partition = c.partition AND p.offset < c.offset
    LEFT JOIN standing AS s ON p.destination = s.destination AND p.receiver = s.receiver AND p.partition = s.partition
)
SELECT * FROM evidence
