-- The latest of the keys under which something was told in a stretch of time, with when that was (µs). Parameters: after, until (µs); top.
SELECT hex(message) AS message, toUnixTimestamp64Micro(max(at)) AS told_at
FROM
(
    SELECT message, w.seen_at AS at
    FROM senders_wanted AS w
    WHERE w.seen_at > fromUnixTimestamp64Micro({after:Int64}, 'UTC') AND w.seen_at <= fromUnixTimestamp64Micro({until:Int64}, 'UTC')
        AND day >= toDate(fromUnixTimestamp64Micro({after:Int64}, 'UTC'))
    ORDER BY at DESC
    LIMIT {top:UInt32}
)
GROUP BY message
