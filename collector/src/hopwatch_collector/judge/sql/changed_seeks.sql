-- Where Kafka consumers were moved, as learnt after a moment. Parameter: after (ms).
SELECT DISTINCT destination, receiver, partition, least(offset, until) AS low, greatest(offset, until) AS high
FROM moves
WHERE seen_at > fromUnixTimestamp64Milli({after:Int64}, 'UTC') AND day >= toDate(fromUnixTimestamp64Milli({after:Int64}, 'UTC')) - 2
