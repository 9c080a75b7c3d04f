-- How many facts there are whose sender is looked for, of those told in a stretch of time, and when the last of them was told: a page
-- of them at most. Parameters: after, until (µs); top.
SELECT count() AS facts, toUnixTimestamp64Micro(max(told_at)) AS last
FROM
(
    SELECT w.seen_at AS told_at
    FROM senders_wanted AS w
    WHERE w.seen_at > fromUnixTimestamp64Micro({after:Int64}, 'UTC') AND w.seen_at <= fromUnixTimestamp64Micro({until:Int64}, 'UTC')
        AND day >= toDate(fromUnixTimestamp64Micro({after:Int64}, 'UTC'))
    ORDER BY told_at
    LIMIT {top:UInt32}
)
