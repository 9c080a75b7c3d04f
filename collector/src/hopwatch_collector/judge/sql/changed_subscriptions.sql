-- Subscriptions of which something was learnt after a moment. Times in µs. Parameter: after (ms).
SELECT
    system, broker, pattern, receiver, 1 AS durable, resource,
    toUnixTimestamp64Micro(min(d.first_at)) AS first_at, toUnixTimestamp64Micro(max(d.last_at)) AS last_at,
    toUnixTimestamp64Micro(max(d.unsubscribed_at)) AS unsubscribed_at, toUnixTimestamp64Milli(min(d.learnt_at)) AS learnt_at
FROM durable_subscriptions AS d
GROUP BY system, broker, pattern, receiver, resource
HAVING max(d.seen_at) > fromUnixTimestamp64Milli({after:Int64}, 'UTC')
UNION ALL
SELECT
    system, broker, pattern, receiver, 0 AS durable, resource,
    toUnixTimestamp64Micro(min(b.first_at)) AS first_at, toUnixTimestamp64Micro(max(b.last_at)) AS last_at,
    toUnixTimestamp64Micro(max(b.unsubscribed_at)) AS unsubscribed_at, toUnixTimestamp64Milli(min(b.learnt_at)) AS learnt_at
FROM brief_subscriptions AS b
-- Whatever time they are about: a report may come late. The index by seen_at leaves out the rest.
WHERE b.seen_at > fromUnixTimestamp64Milli({after:Int64}, 'UTC')
GROUP BY system, broker, pattern, receiver, resource
