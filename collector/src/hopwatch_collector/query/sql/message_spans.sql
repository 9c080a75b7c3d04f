-- The spans by which a message was told of. One that knew only the sending span names another message: it is told apart by the
-- moment and the trace of what it told. Parameter: message (hex).
SELECT
    if(role IN ('send', 'call'), '', receiver) AS to_receiver, attempt,
    multiIf(NOT startsWith(scope, 'hopwatch.'), toFixedString('', 8), role = 'receive', span_id, role = 'open' AND operation != '', parent_id, toFixedString('', 8)) AS hop,
    argMin((trace_id, if(role = 'open', parent_id, span_id), resource), (role = 'open', started_at)) AS span
FROM spans
WHERE
    (toStartOfMinute(started_at) IN (SELECT toStartOfMinute(started_at) FROM ledger WHERE message = toFixedString(unhex({message:String}), 16))
        OR started_at >= toDateTime64('2106-02-07 00:00:00', 9, 'UTC'))
    AND (message = toFixedString(unhex({message:String}), 16)
        OR NOT own_id AND (trace_id, toDateTime64(started_at, 6, 'UTC')) IN
            (SELECT trace_id, started_at FROM ledger WHERE message = toFixedString(unhex({message:String}), 16)))
    AND role IN ('send', 'call', 'receive', 'serve', 'open')
GROUP BY to_receiver, attempt, hop
