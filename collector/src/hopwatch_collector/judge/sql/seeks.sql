-- Where Kafka consumers were moved since a moment. Times in µs. Parameters: receivers, since (s).
SELECT DISTINCT broker, destination, receiver, partition, toUnixTimestamp64Micro(m.at) AS at, offset AS from_offset, until AS to_offset, resource
FROM moves AS m
WHERE receiver IN {receivers:Array(String)}
    AND m.at >= toDateTime64({since:Int64}, 6, 'UTC') AND day >= toDate(toDateTime({since:Int64}, 'UTC'))
