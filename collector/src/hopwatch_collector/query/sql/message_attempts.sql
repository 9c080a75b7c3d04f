-- Each handing-over of a message, numbered in order, and the send (attempt 0). Parameters: message (hex), day (of its first fact).
WITH
told AS
(
    SELECT
        receiver, attempt, hop, min(l.started_at) AS started_at,
        -- Of a call that is open there is a report, which is not its end.
        if(max(l.call) AND attempt > 0 AND max(l.settle) = 'none', toDateTime64(0, 6, 'UTC'), max(l.ended_at)) AS ended_at, max(l.service) AS service,
        toString(max(l.settle)) AS settle, max(l.failed) AS failed, max(l.error) AS error, max(l.reason) AS reason, max(l.trace_id) AS trace_id,
        max(l.resource) AS resource
    FROM ledger AS l
    WHERE message = toFixedString(unhex({message:String}), 16) AND (attempt > 0 OR receiver = '')
    GROUP BY receiver, attempt, hop
    HAVING max(l.moved) = 0
),
seen AS
(
    SELECT
        if(role IN ('send', 'call'), '', receiver) AS receiver, attempt,
        multiIf(NOT startsWith(scope, 'hopwatch.'), toFixedString('', 8), role = 'receive', span_id, role = 'open' AND operation != '', parent_id, toFixedString('', 8)) AS hop,
        argMin((trace_id, if(role = 'open', parent_id, span_id), resource), (role = 'open', started_at)) AS span
    FROM spans
    WHERE day >= {day:Date} - 1
        AND (message = toFixedString(unhex({message:String}), 16)
            OR message IN (SELECT message FROM strangers WHERE known_as = toFixedString(unhex({message:String}), 16)))
        AND role IN ('send', 'call', 'receive', 'serve', 'open')
    GROUP BY receiver, attempt, hop
)
SELECT
    told.receiver AS receiver,
    if(told.attempt = 0, 0, greatest(told.attempt,
        row_number() OVER (PARTITION BY told.receiver, told.attempt > 0 ORDER BY told.attempt, told.started_at))) AS attempt,
    started_at, ended_at, told.service AS service, settle, failed, error, reason,
    if(seen.span.1 = toFixedString('', 16), told.trace_id, seen.span.1) AS trace_id,
    if(told.hop = toFixedString('', 8), seen.span.2, told.hop) AS span_id,
    r.instance AS instance, told.resource AS resource
FROM told
LEFT JOIN seen ON told.receiver = seen.receiver AND told.attempt = seen.attempt AND told.hop = seen.hop
LEFT JOIN (SELECT resource, any(instance) AS instance FROM resources GROUP BY resource) AS r ON seen.span.3 = r.resource
ORDER BY receiver, attempt
