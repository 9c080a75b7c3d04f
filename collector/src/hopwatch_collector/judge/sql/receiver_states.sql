-- How receivers stood, whenever that changed, between two moments. Times in µs. Parameters: receivers, since (s).
SELECT
    system, broker, incarnation, destination, receiver, partition, toUnixTimestamp64Micro(s.at) AS at,
    first, end, next, done, waiting, in_hand, published, handed, acked, ttl_ms, max_length, dead_letters, uncounted, heard_from, consumers, state, kind,
    toUnixTimestamp64Micro(s.unchanged_until) AS unchanged_until
FROM receiver_states AS s
WHERE s.at >= toDateTime64({since:Int64}, 6, 'UTC') AND day >= toDate(toDateTime({since:Int64}, 'UTC'))
    AND receiver IN {receivers:Array(String)}
