-- Of the keys in `wanted` those whose sender is known, and the id of the message it sent. Where the sender's span lies, `span_minutes` says;
-- one whose message had no id of its own is not in it: then the facts are told under the right key as it is.
SELECT hex(toFixedString(concat(substring(s.trace_id, 9, 8), s.span_id), 16) AS asked) AS message, hex(max(s.message)) AS known_as
FROM spans AS s
WHERE
    (toStartOfMinute(s.started_at) IN
        (SELECT toDateTime(minute * 60, 'UTC') FROM span_minutes WHERE hash IN (SELECT xxHash32(key) FROM wanted))
        OR s.started_at >= toDateTime64('2106-02-07 00:00:00', 9, 'UTC'))
    AND s.own_id AND s.role IN ('send', 'call')
    AND asked IN (SELECT key FROM wanted)
GROUP BY asked
