-- What brokers said of single offsets. Times in µs. Parameters: receivers, offsets.
SELECT system, broker, receiver, partition, offset, kind, toUnixTimestamp64Micro(at) AS at
FROM sightings
WHERE receiver IN {receivers:Array(String)} AND offset IN {offsets:Array(Int64)}
