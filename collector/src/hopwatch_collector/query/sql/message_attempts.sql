-- Each handing-over of a message as it is known, and the send (attempt 0). Parameter: message (hex).
SELECT
    receiver, attempt, hop, min(l.started_at) AS started_at,
    -- Of a call that is open there is a report, which is not its end.
    if(max(l.call) AND attempt > 0 AND max(l.settle) = 'none', toDateTime64(0, 6, 'UTC'), max(l.ended_at)) AS ended_at, max(l.service) AS service,
    toString(max(l.settle)) AS settle, max(l.failed) AS failed, max(l.error) AS error, max(l.reason) AS reason, max(l.trace_id) AS trace_id,
    max(l.resource) AS resource, max(l.unnamed) AS unnamed
FROM ledger AS l
WHERE message = toFixedString(unhex({message:String}), 16) AND (attempt > 0 OR receiver = '')
GROUP BY receiver, attempt, hop
HAVING max(l.moved) = 0
ORDER BY receiver, attempt, started_at
