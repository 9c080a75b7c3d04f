-- What receivers were entitled to, and who says so: services of themselves, brokers of those they know, the team in what it
-- declares. Parameters: system; receivers; top; clock_processes and clock_us (whose clocks are off, and by how much).
SELECT
    receiver, pattern, told_by,
    min(r.first_at) AS first_at,
    max(r.last_at) AS last_at,
    max(r.unsubscribed_at) AS left_at,
    max(r.service) AS service
FROM
(
    SELECT
        receiver, pattern, if(resource IN (SELECT resource FROM resources), 'service', 'broker') AS told_by,
        if(c.first_at < toDateTime64('2299-01-01 00:00:00', 6, 'UTC'), c.first_at - off, c.first_at) AS first_at,
        c.last_at - off AS last_at, c.unsubscribed_at - off AS unsubscribed_at, service
    FROM (SELECT *, toIntervalMicrosecond(transform(resource, {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0))) AS off FROM subscriptions) AS c
    WHERE system = {system:String} AND receiver IN {receivers:Array(String)}
    UNION ALL
    SELECT
        receiver, pattern, 'declaration' AS told_by, from_at AS first_at, from_at AS last_at,
        if(until_at < toDateTime64('2299-01-01 00:00:00', 6, 'UTC'), until_at, toDateTime64(0, 6, 'UTC')) AS unsubscribed_at, source AS service
    FROM declared FINAL
    WHERE system = {system:String} AND receiver IN {receivers:Array(String)}
) AS r
GROUP BY receiver, pattern, told_by
ORDER BY receiver, first_at
LIMIT {top:UInt32} BY receiver
