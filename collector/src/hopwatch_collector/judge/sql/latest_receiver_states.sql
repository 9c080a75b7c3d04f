-- How receivers stood last, as known before a moment: a day is looked at first, and more only if asked. Times in µs.
-- Parameters: receivers, since, until (s).
SELECT
    system, broker, incarnation, destination, receiver, partition, toUnixTimestamp64Micro(max(s.at)) AS at,
    argMax(s.first, s.at) AS first, argMax(s.end, s.at) AS end, argMax(s.next, s.at) AS next, argMax(s.done, s.at) AS done,
    argMax(s.waiting, s.at) AS waiting, argMax(s.in_hand, s.at) AS in_hand, argMax(s.published, s.at) AS published,
    argMax(s.handed, s.at) AS handed, argMax(s.acked, s.at) AS acked, argMax(s.ttl_ms, s.at) AS ttl_ms,
    argMax(s.max_length, s.at) AS max_length, argMax(s.dead_letters, s.at) AS dead_letters, argMax(s.uncounted, s.at) AS uncounted,
    argMax(s.heard_from, s.at) AS heard_from, argMax(s.consumers, s.at) AS consumers,
    toUnixTimestamp64Micro(argMax(s.unchanged_until, s.at)) AS unchanged_until, argMax(s.state, s.at) AS state, argMax(s.kind, s.at) AS kind
FROM receiver_states AS s
WHERE s.at >= toDateTime64({since:Int64}, 6, 'UTC') AND s.at < toDateTime64({until:Int64}, 6, 'UTC')
    AND day BETWEEN toDate(toDateTime({since:Int64}, 'UTC')) AND toDate(toDateTime({until:Int64}, 'UTC'))
    AND receiver IN {receivers:Array(String)}
GROUP BY system, broker, incarnation, destination, receiver, partition
