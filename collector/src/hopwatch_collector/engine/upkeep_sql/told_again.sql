-- Of some facts told in a stretch of time those that were not given to a message since they were told. Parameters: after, until (µs);
-- messages (hex).
SELECT hex(message) AS message
FROM
(
    SELECT message, w.seen_at AS told_at, toDateTime64(0, 6, 'UTC') AS given_at
    FROM senders_wanted AS w
    WHERE w.seen_at > fromUnixTimestamp64Micro({after:Int64}, 'UTC') AND w.seen_at <= fromUnixTimestamp64Micro({until:Int64}, 'UTC')
        AND message IN (SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16))
    UNION ALL
    SELECT message, toDateTime64(0, 6, 'UTC') AS told_at, k.seen_at AS given_at
    FROM strangers AS k
    WHERE message IN (SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16)) AND known_as != toFixedString('', 16)
)
GROUP BY message
HAVING max(told_at) > max(given_at)
