-- The flows of traces; a trace that is of several stands for the one that has an id of its own. Parameters: flows (traces, hex).
SELECT lower(hex(trace_id)) AS trace_id, lower(hex(if(max(s.flow) = toFixedString('', 16), s.trace_id, max(s.flow)))) AS flow_id
FROM spans AS s
WHERE
-- include: minutes_of_flows
    AND s.trace_id IN (SELECT toFixedString(unhex(arrayJoin({flows:Array(String)})), 16))
GROUP BY s.trace_id
