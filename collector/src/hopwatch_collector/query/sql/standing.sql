-- How deliveries stand in the window, in one pass: per (system, destination, receiver, verdict) for lag and counts, per flow for
-- the flows named, and the newest undelivered ones. `kind` tells the three apart.
-- Parameters besides those of the stages: flows (lower-case hex), undelivered (the verdicts that count so).
-- stage: picked_in_window
-- stage: verdicts
SELECT
    multiIf(grouping(verdict) = 1, 'undelivered', grouping(known_flow) = 0, 'flow', 'receiver') AS kind,
    system, destination, receiver, verdict, known_flow AS flow,
    count() AS deliveries,
    -- What waits on purpose is no lag.
    countIf(cause != 'waiting.delayed') AS lagging,
    minIf(since, cause != 'waiting.delayed') AS oldest,
    max(received_at) AS last_received_at,
    -- What a client last said still waited; -1: none did.
    countIf(pending >= 0 AND attempts > 0) > 0 AS pending_said,
    if(pending_said, argMaxIf(pending, received_at, pending >= 0 AND attempts > 0), -1) AS last_pending,
    maxIf(received_at, pending >= 0 AND attempts > 0) AS pending_at,
    max(call) AS call,
    arrayMap(x -> lower(hex(x.2)), groupArraySorted(5)((since, flow))) AS samples,
    if(kind = 'undelivered', groupArraySortedIf(101)(
        (-toUnixTimestamp64Micro(d.first_at), (d.first_at, d.message, d.receiver, d.verdict, d.cause, d.why, d.since, d.witnesses, d.system, d.destination,
            d.producer, d.consumer, d.sender_seen, d.sent_at, d.received_at, d.settled_at, d.attempts, d.flow, d.trace_id, d.keys, d.due_at,
            d.declared, d.sender_off_us, d.receiver_off_us)),
        has({undelivered:Array(String)}, d.verdict)), []).2 AS rows
FROM
(
    SELECT *, if(has({flows:Array(String)}, lower(hex(flow))), flow, toFixedString('', 16)) AS known_flow
    FROM deliveries
) AS d
GROUP BY GROUPING SETS ((system, destination, receiver, verdict), (known_flow, verdict), ())
