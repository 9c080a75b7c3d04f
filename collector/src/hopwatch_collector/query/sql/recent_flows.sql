-- Flows with a span in the window that matches, the latest first. Parameters: since, until, service, destination (empty: any), top.
SELECT lower(hex(if(flow = toFixedString('', 16), trace_id, flow))) AS flow_id
FROM spans
WHERE started_at BETWEEN {since:DateTime64(6)} AND {until:DateTime64(6)}
    AND role NOT IN ('commit', 'subscribe', 'unsubscribe')
    AND (role != 'open' OR parent_id != toFixedString('', 8))     -- that something is open, not other news
    AND ({service:String} = '' OR service = {service:String})
    AND ({destination:String} = '' OR destination = {destination:String})
ORDER BY started_at DESC
LIMIT 1 BY flow_id
LIMIT {top:UInt32}
