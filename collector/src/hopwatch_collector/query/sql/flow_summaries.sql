-- Flows in brief, the latest first, with the keys of their messages. Parameters: flows (hex), since (first day to look at),
-- clock_processes and clock_us (whose clocks are off, and by how much).
WITH
wanted AS (SELECT toFixedString(unhex(arrayJoin({flows:Array(String)})), 16) AS id),
found AS
(
    SELECT
        if(flow = toFixedString('', 16), trace_id, flow) AS flow_id,
        started_at - toIntervalMicrosecond(transform(resource, {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0))) AS began_at,
        duration, if(role = 'open', spans.parent_id, spans.span_id) AS span_id, parent_id, trace_id, name, kind,
        service, status, message, keys, role = 'open' AS open
    FROM spans
    WHERE day >= toDate({since:DateTime64(6)}) - 1
        AND (trace_id IN (SELECT id FROM wanted) OR flow IN (SELECT id FROM wanted))
        AND role NOT IN ('commit', 'subscribe', 'unsubscribe')
        AND (role != 'open' OR spans.parent_id != toFixedString('', 8))
)
SELECT
    lower(hex(f.flow_id)) AS flow_id,
    -- The root; where it has not been seen (yet), the earliest. A caller knows only its method: rather what it reached.
    argMin((name, service), (open, kind = 'client', parent_id != toFixedString('', 8), f.began_at)) AS root,
    min(f.began_at) AS first_at,
    -- A report is younger than what it tells of: once there are spans they say when the last of it was.
    if(min(open), max(f.began_at), maxIf(addNanoseconds(f.began_at, duration), NOT open)) AS last_at,
    uniqExact(trace_id, span_id) AS spans,
    uniqExactIf((trace_id, span_id), status = 'error') AS errors,
    arraySort(groupUniqArray(100)(service)) AS services,
    arraySort(groupUniqArrayArray(100)(CAST(keys, 'Array(Tuple(String, String))'))) AS keys,
    groupUniqArrayIf(5000)(hex(message), message != toFixedString('', 16)) AS messages
FROM found AS f
WHERE f.flow_id IN (SELECT id FROM wanted)
GROUP BY f.flow_id
ORDER BY last_at DESC, flow_id
