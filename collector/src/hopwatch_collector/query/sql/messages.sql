-- Stage: what services showed of every message in `picked`, into `messages`: one row each.
-- Parameters: clock_processes and clock_us (side by side: processes whose clocks are off, and by how much): all times are corrected.
CREATE OR REPLACE TEMPORARY TABLE messages ENGINE = Memory AS
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
)

-- Per message: what its sender saw, completed by what receivers saw where the sender was not seen; the receivers as an array.
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
