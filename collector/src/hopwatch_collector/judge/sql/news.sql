-- When something was last learnt from each source of news, in ms; 0: nothing lately. Parameter: after (ms).
WITH toDate(fromUnixTimestamp64Milli({after:Int64}, 'UTC')) - 1 AS first_day
SELECT 'durable_subscriptions' AS source, toUnixTimestamp64Milli(max(d.seen_at)) AS at FROM durable_subscriptions AS d
UNION ALL
SELECT 'brief_subscriptions' AS source, toUnixTimestamp64Milli(max(b.seen_at)) AS at
FROM brief_subscriptions AS b
WHERE b.span_of_time >= toDateTime(intDiv({after:Int64}, 1000), 'UTC') - 600 AND day >= first_day
UNION ALL
SELECT 'receiver_states' AS source, toUnixTimestamp64Milli(max(s.seen_at)) AS at
FROM receiver_states AS s
WHERE s.at >= fromUnixTimestamp64Milli({after:Int64}, 'UTC') - INTERVAL 10 MINUTE AND day >= first_day
UNION ALL
SELECT 'commits' AS source, toUnixTimestamp64Milli(max(c.seen_at)) AS at FROM commit_heads AS c WHERE day >= first_day
UNION ALL
SELECT 'moves' AS source, toUnixTimestamp64Milli(max(m.seen_at)) AS at FROM moves AS m WHERE day >= first_day - 1
UNION ALL
SELECT 'sightings' AS source, toUnixTimestamp64Milli(max(a.seen_at)) AS at FROM sightings AS a WHERE day >= first_day - 1
UNION ALL
-- Whoever tells of a broker tells so again and again: news is only the first time.
SELECT 'brokers' AS source, toUnixTimestamp64Milli(max(first_at)) AS at FROM (SELECT min(n.seen_at) AS first_at FROM brokers AS n GROUP BY tenant, system, told, name)
