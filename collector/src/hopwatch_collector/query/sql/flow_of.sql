-- The flow a trace belongs to. Parameter: flow (hex of a flow or trace id).
SELECT lower(hex(if(flow = toFixedString('', 16), trace_id, flow))) AS flow_id, count() AS spans
FROM spans
WHERE
-- include: minutes_of_flow
    AND (trace_id = toFixedString(unhex({flow:String}), 16) OR flow = toFixedString(unhex({flow:String}), 16))
GROUP BY flow_id
-- The flow of that very id, if there is one; otherwise the one most of the trace belongs to.
ORDER BY flow_id = {flow:String} DESC, spans DESC
LIMIT 1
