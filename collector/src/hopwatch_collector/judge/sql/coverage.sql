-- When processes told what they do as receivers, a row per minute: since a day before, for whether they ever took messages. Times in µs.
-- Parameters: receivers, since, until (s).
SELECT
    system, broker, receiver, resource, member, max(c.reads) > 0 AS reads, max(c.part) > 0 AS part,
    toUnixTimestamp64Micro(min(c.first_at)) AS first_at,
    toUnixTimestamp64Micro(max(c.last_at)) AS last_at,
    toUnixTimestamp64Micro(max(c.left_at)) AS left_at
FROM coverage AS c
WHERE receiver IN {receivers:Array(String)} AND tenant = '' AND system IN ('kafka', 'nats', 'rabbitmq')
    AND c.minute BETWEEN toDateTime({since:Int64}, 'UTC') - 86400 AND toDateTime({until:Int64}, 'UTC')
    AND day BETWEEN toDate(toDateTime({since:Int64}, 'UTC')) - 2 AND toDate(toDateTime({until:Int64}, 'UTC')) + 1
GROUP BY system, broker, receiver, resource, member, minute
