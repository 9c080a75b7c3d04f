-- How receivers stand of whom something was learnt after a moment. Times in µs. Parameters: after, until (ms).
SELECT
    system, broker, destination, receiver, partition, toUnixTimestamp64Micro(max(s.at)) AS at,
    argMax((s.first, s.next, s.done, s.state, s.heard_from, s.in_hand, s.uncounted, s.published, s.handed, s.acked, s.waiting, s.incarnation), s.at) AS stands,
    tupleElement(stands, 1) AS first, tupleElement(stands, 2) AS next, tupleElement(stands, 3) AS done, tupleElement(stands, 4) AS state,
    concat(
        toString(tupleElement(stands, 5)), ' ', toString(tupleElement(stands, 6)), ' ', toString(tupleElement(stands, 7)), ' ', tupleElement(stands, 4), ' ',
        tupleElement(stands, 12)
    ) AS other,
    concat(
        toString(tupleElement(stands, 8)), ' ', toString(tupleElement(stands, 9)), ' ', toString(tupleElement(stands, 10)), ' ',
        toString(tupleElement(stands, 11)), ' ', toString(tupleElement(stands, 6))
    ) AS counters
FROM receiver_states AS s
WHERE s.seen_at > fromUnixTimestamp64Milli({after:Int64}, 'UTC') AND s.seen_at <= fromUnixTimestamp64Milli({until:Int64}, 'UTC')
    AND s.at > fromUnixTimestamp64Milli({after:Int64}, 'UTC') - INTERVAL 10 MINUTE
    AND day >= toDate(fromUnixTimestamp64Milli({after:Int64}, 'UTC') - INTERVAL 10 MINUTE)
GROUP BY system, broker, destination, receiver, partition
