-- Messages and flows whose business key has the value asked for, the latest first.
-- Parameters: since, until, key (empty: any), value, top.
SELECT
    lower(hex(if(flow = toFixedString('', 16), trace_id, flow))) AS flow_id,
    hex(message) AS message,
    min(started_at) AS at,
    any(arrayFirst((k, v) -> v = {value:String} AND ({key:String} = '' OR k = {key:String}), mapKeys(keys), mapValues(keys))) AS key
FROM spans
WHERE
    (toStartOfMinute(started_at) IN (SELECT toDateTime(minute * 60, 'UTC') FROM span_minutes WHERE hash = xxHash32({value:String}))
        OR started_at >= toDateTime64('2106-02-07 00:00:00', 9, 'UTC'))
    AND started_at BETWEEN {since:DateTime64(6)} AND {until:DateTime64(6)}
    AND has(mapValues(keys), {value:String})
    AND ({key:String} = '' OR keys[{key:String}] = {value:String})
GROUP BY flow_id, message
ORDER BY at DESC
LIMIT {top:UInt32}
