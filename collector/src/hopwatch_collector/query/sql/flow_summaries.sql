-- Flows in brief, the latest first, with the keys of their messages. Parameters: flows (hex); clock_processes and clock_us (whose
-- clocks are off, and by how much).
SELECT
    lower(hex(if(flow = toFixedString('', 16), trace_id, flow))) AS flow_id,
    -- The root; where it has not been seen (yet), the earliest. A caller knows only its method: rather what it reached.
    argMin((name, service), (role = 'open', kind = 'client', parent_id != toFixedString('', 8), began_at)) AS root,
    min(began_at) AS first_at,
    -- A report is younger than what it tells of: once there are spans they say when the last of it was.
    if(min(role = 'open'), max(began_at), maxIf(addNanoseconds(began_at, duration), role != 'open')) AS last_at,
    uniqExact(trace_id, if(role = 'open', parent_id, span_id)) AS spans,
    uniqExactIf((trace_id, if(role = 'open', parent_id, span_id)), status = 'error') AS errors,
    arraySort(groupUniqArray(100)(service)) AS services,
    arraySort(groupUniqArrayArray(100)(CAST(keys, 'Array(Tuple(String, String))'))) AS keys,
    groupUniqArrayIf(5000)(hex(message), message != toFixedString('', 16)) AS messages
FROM
(
    SELECT *, started_at - toIntervalMicrosecond(transform(resource, {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0))) AS began_at
    FROM spans
)
WHERE
-- include: minutes_of_flows
    AND if(flow = toFixedString('', 16), trace_id, flow) IN (SELECT toFixedString(unhex(arrayJoin({flows:Array(String)})), 16))
    AND role NOT IN ('commit', 'subscribe', 'unsubscribe')
    AND (role != 'open' OR parent_id != toFixedString('', 8))
GROUP BY flow_id
ORDER BY last_at DESC, flow_id
