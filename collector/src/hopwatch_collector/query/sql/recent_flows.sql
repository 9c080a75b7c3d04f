-- Flows with a span in the window that matches, the latest first. Parameters: since, until, service, destination (empty: any), top,
-- clock_processes, clock_us and clock_slack (whose clocks are off, by how much, and the most seconds of them).
SELECT lower(hex(if(flow = toFixedString('', 16), trace_id, flow))) AS flow_id
FROM spans
WHERE started_at BETWEEN {since:DateTime64(6)} - toIntervalSecond({clock_slack:UInt32}) AND {until:DateTime64(6)} + toIntervalSecond({clock_slack:UInt32})
    AND started_at - toIntervalMicrosecond(transform(resource, {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0))) BETWEEN {since:DateTime64(6)} AND {until:DateTime64(6)}
    AND role NOT IN ('commit', 'subscribe', 'unsubscribe')
    AND (role != 'open' OR parent_id != toFixedString('', 8))     -- that something is open, not other news
    AND ({service:String} = '' OR service = {service:String})
    AND ({destination:String} = '' OR destination = {destination:String})
ORDER BY started_at DESC
LIMIT 1 BY flow_id
LIMIT {top:UInt32}
