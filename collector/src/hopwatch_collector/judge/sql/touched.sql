-- Messages that something was learnt of between two moments, in that order. Times in ms. Parameters: after, upto, top.
SELECT message, toUnixTimestamp64Milli(t.at) AS at
FROM touched AS t
WHERE t.at > fromUnixTimestamp64Milli({after:Int64}, 'UTC') AND t.at <= fromUnixTimestamp64Milli({upto:Int64}, 'UTC')
    AND day >= toDate(fromUnixTimestamp64Milli({after:Int64}, 'UTC'))
ORDER BY t.at
LIMIT {top:UInt32}
