-- When, by our own clock, a log was last seen to end before what now waits in it. A record's timestamp is its producer's; what waits
-- was written after the last look at which the log ended before it. Rows are written on change only, so that any look before the
-- next row saw the same. Parameters: now; destinations, receivers, partitions, followings (side by side).
WITH wanted AS
(
    SELECT tupleElement(one, 1) AS destination, tupleElement(one, 2) AS receiver, tupleElement(one, 3) AS partition, tupleElement(one, 4) AS following
    FROM
    (
        SELECT arrayJoin(arrayZip({destinations:Array(String)}, {receivers:Array(String)}, {partitions:Array(String)}, {followings:Array(Int64)})) AS one
    )
)
SELECT g.destination AS destination, g.receiver AS receiver, g.partition AS partition, greatest(g.short_at, w.at) AS not_before
FROM
(
    SELECT
        'kafka' AS system, p.destination AS destination, p.receiver AS receiver, p.partition AS partition,
        maxIf(p.at, p.end <= t.following) AS short_at, minIf(p.at, p.end > t.following) AS long_at
    FROM receiver_states AS p
    INNER JOIN wanted AS t ON p.destination = t.destination AND p.receiver = t.receiver AND p.partition = t.partition
    WHERE p.system = 'kafka' AND p.at >= {now:DateTime64(6)} - INTERVAL 1 HOUR AND p.day >= toDate({now:DateTime64(6)} - INTERVAL 1 HOUR)
    GROUP BY p.destination, p.receiver, p.partition
    HAVING short_at > 0 AND long_at > short_at
) AS g
ASOF LEFT JOIN (SELECT system, at FROM watches WHERE system = 'kafka' AND ok AND day >= toDate({now:DateTime64(6)} - INTERVAL 1 HOUR)) AS w
    ON g.system = w.system AND g.long_at > w.at
