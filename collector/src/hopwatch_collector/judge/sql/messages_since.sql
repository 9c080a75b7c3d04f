-- Messages sent since a moment through a kind of system, and where to. Parameters: system, since (s), top.
SELECT message, max(l.destination) AS destination
FROM ledger AS l
WHERE l.started_at >= toDateTime64({since:Int64}, 6, 'UTC') AND day >= toDate(toDateTime({since:Int64}, 'UTC'))
    AND receiver = '' AND system = {system:String}
GROUP BY message
LIMIT {top:UInt32}
