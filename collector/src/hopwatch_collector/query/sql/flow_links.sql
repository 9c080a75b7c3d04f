-- Links from and to the spans of a flow. Parameters: flow (hex); traces (hex, of the flow's spans).
SELECT DISTINCT
    lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id, lower(hex(to_trace)) AS to_trace, lower(hex(to_span)) AS to_span,
    lower(hex(if(flow = toFixedString('', 16), l.trace_id, flow))) AS flow_id
FROM
(
    SELECT trace_id, span_id, to_trace, to_span, flow FROM links WHERE trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))
    UNION ALL
    SELECT trace_id, span_id, to_trace, to_span, flow FROM links WHERE to_trace IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))
) AS l
LIMIT 1000
