-- The spans of a flow, oldest first, each once; of one that is still open its report stands in. Parameters: flow (hex), since (first day to look at), top.
SELECT
    lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id, lower(hex(parent_id)) AS parent_id,
    name, toString(kind) AS kind, service, s.resource AS resource, r.instance AS instance, started_at, duration, toString(status) AS status, status_message,
    system, operation, destination, receiver, message, attempt, settle, reason, keys, attrs,
    events.at AS event_times, events.name AS event_names, events.attrs AS event_attrs
FROM
(
    SELECT * REPLACE (
        if(role = 'open', parent_id, span_id) AS span_id,
        if(role = 'open', toFixedString('', 8), parent_id) AS parent_id)
    FROM spans
    WHERE day >= toDate({since:DateTime64(6)}) - 1
        AND (trace_id = toFixedString(unhex({flow:String}), 16) AND flow = toFixedString('', 16) OR flow = toFixedString(unhex({flow:String}), 16))
        AND role NOT IN ('commit', 'subscribe', 'unsubscribe')
        AND (role != 'open' OR spans.parent_id != toFixedString('', 8))
    ORDER BY role = 'open', started_at, span_id
    LIMIT 1 BY trace_id, span_id
    LIMIT {top:UInt32}
) AS s
LEFT JOIN (SELECT resource, any(instance) AS instance FROM resources GROUP BY resource) AS r ON s.resource = r.resource
ORDER BY started_at, span_id
