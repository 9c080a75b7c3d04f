-- The latest commit of groups of whom one was learnt of after a moment. Parameter: after (ms).
SELECT broker, destination, receiver, partition, tupleElement(argMaxMerge(c.latest), 'offset') AS offset
FROM commit_heads AS c
WHERE c.last_at >= fromUnixTimestamp64Milli({after:Int64}, 'UTC') - INTERVAL 1 DAY
    AND day >= toDate(fromUnixTimestamp64Milli({after:Int64}, 'UTC')) - 1
GROUP BY broker, destination, receiver, partition
HAVING max(c.seen_at) > fromUnixTimestamp64Milli({after:Int64}, 'UTC')
