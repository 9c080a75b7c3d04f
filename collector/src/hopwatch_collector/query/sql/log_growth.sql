-- When, by our own clock, a log was last seen to end before what now waits in it. A record's timestamp is its producer's; what waits
-- was written after the last look at which the log ended before it. Rows are written on change only, so that any look before the
-- next row saw the same. Parameters: now; brokers, destinations, receivers, partitions, followings (side by side).
WITH wanted AS
(
    SELECT
        tupleElement(one, 1) AS broker, tupleElement(one, 2) AS destination, tupleElement(one, 3) AS receiver, tupleElement(one, 4) AS partition,
        tupleElement(one, 5) AS following
    FROM
    (
        SELECT arrayJoin(arrayZip({brokers:Array(String)}, {destinations:Array(String)}, {receivers:Array(String)}, {partitions:Array(String)}, {followings:Array(Int64)})) AS one
    )
)
SELECT g.broker AS broker, g.destination AS destination, g.receiver AS receiver, g.partition AS partition, greatest(g.short_at, w.at) AS not_before
FROM
(
    SELECT
        'kafka' AS system, p.broker AS broker, p.destination AS destination, p.receiver AS receiver, p.partition AS partition,
        maxIf(p.at, p.end <= t.following) AS short_at, minIf(p.at, p.end > t.following) AS long_at
    FROM receiver_states AS p
    INNER JOIN wanted AS t ON p.broker = t.broker AND p.destination = t.destination AND p.receiver = t.receiver AND p.partition = t.partition
    WHERE p.system = 'kafka' AND p.at >= {now:DateTime64(6)} - INTERVAL 1 HOUR AND p.day >= toDate({now:DateTime64(6)} - INTERVAL 1 HOUR)
    GROUP BY p.broker, p.destination, p.receiver, p.partition
    HAVING short_at > 0 AND long_at > short_at
) AS g
-- A look at another cluster is none at this one: where several are watched, only what was written on change counts.
ASOF LEFT JOIN
(
    SELECT system, at
    FROM watches
    WHERE system = 'kafka' AND ok AND day >= toDate({now:DateTime64(6)} - INTERVAL 1 HOUR)
        AND (SELECT uniqExact(broker) FROM watches WHERE system = 'kafka' AND day >= toDate({now:DateTime64(6)} - INTERVAL 1 HOUR)) = 1
) AS w
    ON g.system = w.system AND g.long_at > w.at
