-- Messages and flows whose business key or attribute has the value asked for, the latest first.
-- Parameters: since, until, key (empty: any), value, top.
SELECT
    lower(hex(if(flow = toFixedString('', 16), trace_id, flow))) AS flow_id,
    hex(message) AS message,
    min(started_at) AS at,
    any(arrayFirst((k, v) -> v = {value:String} AND ({key:String} = '' OR k = {key:String}), mapKeys(keys), mapValues(keys))) AS key
FROM spans
WHERE started_at BETWEEN {since:DateTime64(6)} AND {until:DateTime64(6)}
    AND has(mapValues(keys), {value:String})
    AND ({key:String} = '' OR keys[{key:String}] = {value:String})
GROUP BY flow_id, message
ORDER BY at DESC
LIMIT {top:UInt32}
