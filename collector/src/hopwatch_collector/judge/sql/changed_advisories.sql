-- What brokers said of single offsets after a moment. Parameter: after (ms).
SELECT DISTINCT receiver, offset
FROM sightings
WHERE seen_at > fromUnixTimestamp64Milli({after:Int64}, 'UTC') AND day >= toDate(fromUnixTimestamp64Milli({after:Int64}, 'UTC')) - 2
