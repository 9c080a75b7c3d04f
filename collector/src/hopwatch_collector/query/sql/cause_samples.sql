-- Of some groups of undelivered messages the newest ones, and when the first of the earliest minute was.
-- Parameters: causes, systems, destinations, receivers, first_minutes, last_minutes (s; side by side).
WITH wanted AS
(
    SELECT
        tupleElement(one, 1) AS cause, tupleElement(one, 2) AS system, tupleElement(one, 3) AS destination, tupleElement(one, 4) AS receiver,
        toDateTime(tupleElement(one, 5), 'UTC') AS first_minute, toDateTime(tupleElement(one, 6), 'UTC') AS last_minute
    FROM
    (
        SELECT arrayJoin(arrayZip({causes:Array(String)}, {systems:Array(String)}, {destinations:Array(String)}, {receivers:Array(String)},
            {first_minutes:Array(Int64)}, {last_minutes:Array(Int64)})) AS one
    )
)
SELECT
    cause, system, destination, receiver, min(began_at) AS first_at, max(began_at) AS last_at,
    arrayMap(x -> x.2, groupArraySorted(5)((-toUnixTimestamp64Micro(began_at), message))) AS samples
FROM
(
    SELECT a.cause AS cause, a.system AS system, a.destination AS destination, a.receiver AS receiver, a.message AS message, any(a.first_at) AS began_at
    FROM attention AS a
    INNER JOIN wanted AS w ON a.cause = w.cause AND a.system = w.system AND a.destination = w.destination AND a.receiver = w.receiver
    WHERE a.minute IN (SELECT first_minute FROM wanted UNION ALL SELECT last_minute FROM wanted)
        AND a.minute IN (w.first_minute, w.last_minute)
    GROUP BY cause, system, destination, receiver, message, a.version
    HAVING sum(a.sign) > 0
)
GROUP BY cause, system, destination, receiver
