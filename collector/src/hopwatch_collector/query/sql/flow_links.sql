-- Links from and to the spans of a flow, with the flows at their other ends. Parameters: flow (hex), traces (hex, of the flow's spans), since.
WITH toFixedString(unhex({flow:String}), 16) AS this
SELECT DISTINCT
    lower(hex(l.trace_id)) AS trace_id, lower(hex(l.span_id)) AS span_id,
    lower(hex(l.to_trace)) AS to_trace, lower(hex(l.to_span)) AS to_span,
    lower(hex(if(l.flow = toFixedString('', 16), l.trace_id, l.flow))) AS flow_id,
    lower(hex(if(t.flow = toFixedString('', 16), l.to_trace, t.flow))) AS to_flow
FROM links AS l
LEFT JOIN
(
    SELECT trace_id, max(flow) AS flow
    FROM spans
    WHERE trace_id IN (SELECT to_trace FROM links WHERE trace_id IN (SELECT unhex(arrayJoin({traces:Array(String)}))))
    GROUP BY trace_id
) AS t ON l.to_trace = t.trace_id
WHERE l.day >= toDate({since:DateTime64(6)}) - 1
    AND (l.trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))
        OR l.to_trace IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16)))
LIMIT 1000
