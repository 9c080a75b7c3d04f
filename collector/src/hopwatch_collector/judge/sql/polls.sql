-- When each broker could last be asked, and what it did not show then. Times in µs. Parameter: since (s).
SELECT
    system, broker, toUnixTimestamp64Micro(maxIf(w.at, ok)) AS ok_at, argMax(w.trouble, w.at) AS trouble, argMaxIf(w.trouble, w.at, ok) AS blind
FROM watches AS w
WHERE w.at >= toDateTime64({since:Int64}, 6, 'UTC') AND day >= toDate(toDateTime({since:Int64}, 'UTC'))
GROUP BY system, broker
