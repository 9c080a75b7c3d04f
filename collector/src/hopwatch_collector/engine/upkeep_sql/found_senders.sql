-- Of the facts told in a stretch of time those whose sender is known, and the id of the message it sent; not those that were given to
-- it already, unless they were told again since. Parameters: after, until (µs).
-- Where the sender's span lies, `span_minutes` says; one whose message had no id of its own is not in it: then the facts are told
-- under the right key as it is.
WITH
wanted AS
(
    SELECT message, max(w.seen_at) AS told_at
    FROM senders_wanted AS w
    WHERE w.seen_at > fromUnixTimestamp64Micro({after:Int64}, 'UTC') AND w.seen_at <= fromUnixTimestamp64Micro({until:Int64}, 'UTC')
        AND day >= toDate(fromUnixTimestamp64Micro({after:Int64}, 'UTC'))
    GROUP BY message
),
found AS
(
    SELECT toFixedString(concat(substring(s.trace_id, 9, 8), s.span_id), 16) AS asked, max(s.message) AS known_as
    FROM spans AS s
    WHERE
        (toStartOfMinute(s.started_at) IN
            (SELECT toDateTime(minute * 60, 'UTC') FROM span_minutes WHERE hash IN (SELECT xxHash32(message) FROM wanted))
            OR s.started_at >= toDateTime64('2106-02-07 00:00:00', 9, 'UTC'))
        AND s.own_id AND s.role IN ('send', 'call') AND asked IN (SELECT message FROM wanted)
    GROUP BY asked
)
SELECT hex(f.asked) AS message, hex(f.known_as) AS known_as
FROM found AS f
INNER JOIN wanted AS w ON f.asked = w.message
LEFT JOIN
(
    SELECT message, max(k.seen_at) AS given_at
    FROM strangers AS k
    WHERE message IN (SELECT asked FROM found) AND known_as != toFixedString('', 16)
    GROUP BY message
) AS g ON f.asked = g.message
WHERE w.told_at >= g.given_at
