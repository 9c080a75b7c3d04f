-- The spans of a flow, oldest first, each once; of one that is still open its report stands in. Parameters: flow (hex), top.
SELECT
    trace_id, span_id, parent_id, role, name, toString(kind) AS kind_name, service, resource, started_at, duration, toString(status) AS status_name,
    status_message, system, operation, destination, receiver, message, attempt, settle, reason, keys, attrs,
    events.at AS event_times, events.name AS event_names, events.attrs AS event_attrs
FROM spans
WHERE
-- include: minutes_of_flow
    AND (trace_id = toFixedString(unhex({flow:String}), 16) AND flow = toFixedString('', 16) OR flow = toFixedString(unhex({flow:String}), 16))
    AND role NOT IN ('commit', 'subscribe', 'unsubscribe')
    AND (role != 'open' OR parent_id != toFixedString('', 8))
ORDER BY role = 'open', started_at, span_id
LIMIT 1 BY trace_id, if(role = 'open', parent_id, span_id)
LIMIT {top:UInt32}
