-- Messages that some processes told of since a moment. Parameters: resources, since (s), top.
SELECT DISTINCT message
FROM ledger AS l
WHERE l.started_at >= toDateTime64({since:Int64}, 6, 'UTC') AND day >= toDate(toDateTime({since:Int64}, 'UTC'))
    AND resource IN {resources:Array(UInt64)}
LIMIT {top:UInt32}
