-- Every subscription that lasts while nobody is connected. Times in µs.
SELECT
    system, broker, pattern, receiver, 1 AS durable, resource,
    toUnixTimestamp64Micro(min(s.first_at)) AS first_at,
    toUnixTimestamp64Micro(max(s.last_at)) AS last_at,
    toUnixTimestamp64Micro(max(s.unsubscribed_at)) AS unsubscribed_at,
    resource IN (SELECT resource FROM resources) AS by_service
FROM durable_subscriptions AS s
GROUP BY system, broker, pattern, receiver, resource
