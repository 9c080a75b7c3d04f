-- Reports of the other subscriptions between two moments, one row per 15 s. Times in µs. Parameters: since, until.
SELECT
    system, broker, pattern, receiver, 0 AS durable, resource,
    toUnixTimestamp64Micro(min(s.first_at)) AS first_at,
    toUnixTimestamp64Micro(max(s.last_at)) AS last_at,
    toUnixTimestamp64Micro(max(s.unsubscribed_at)) AS unsubscribed_at,
    resource IN (SELECT resource FROM resources) AS by_service
FROM brief_subscriptions AS s
WHERE span_of_time BETWEEN toDateTime({since:Int64}, 'UTC') AND toDateTime({until:Int64}, 'UTC')
    -- Filed under another day where a span was dated absurdly.
    AND day BETWEEN toDate(toDateTime({since:Int64}, 'UTC')) - 1 AND toDate(toDateTime({until:Int64}, 'UTC')) + 1
GROUP BY system, broker, pattern, receiver, resource, span_of_time
