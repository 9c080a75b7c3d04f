-- What receivers were entitled to, and who says so: services of themselves, brokers of those they know, the team in what it
-- declares. Parameters: system; receivers; top.
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
        first_at, last_at, unsubscribed_at, service
    FROM receivers
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
