-- The flow a trace belongs to, and since when there is anything of it. Parameters: id (hex of a flow or trace id).
SELECT lower(hex(if(flow = toFixedString('', 16), trace_id, flow))) AS flow_id, min(started_at) AS first_at, count() AS spans
FROM spans
WHERE trace_id = toFixedString(unhex({id:String}), 16) OR flow = toFixedString(unhex({id:String}), 16)
GROUP BY flow_id
-- The flow of that very id, if there is one; otherwise the one most of the trace belongs to.
ORDER BY flow_id = {id:String} DESC, spans DESC
LIMIT 1
