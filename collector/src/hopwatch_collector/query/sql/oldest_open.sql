-- The oldest rows of some receivers that are open, from the minutes in which they are known to be. Parameters: systems, destinations,
-- receivers, minutes (s; side by side), widths (s).
WITH wanted AS
(
    SELECT
        tupleElement(one, 1) AS system, tupleElement(one, 2) AS destination, tupleElement(one, 3) AS receiver, toDateTime(tupleElement(one, 4), 'UTC') AS minute
    FROM
    (
        SELECT arrayJoin(arrayZip({systems:Array(String)}, {destinations:Array(String)}, {receivers:Array(String)}, {minutes:Array(Int64)})) AS one
    )
)
SELECT
    system, destination, receiver,
    minIf(since, verdict IN ('waiting', 'overdue') AND cause != 'waiting.delayed') AS oldest,
    arrayMap(x -> lower(hex(x.2)), groupArraySorted(5)((since, flow))) AS samples
FROM
(
    SELECT
        a.system AS system, a.destination AS destination, a.receiver AS receiver, a.message AS message, any(a.verdict) AS verdict, any(a.cause) AS cause,
        any(a.since) AS since, any(a.flow) AS flow
    FROM attention AS a
    INNER JOIN wanted AS w ON a.system = w.system AND a.destination = w.destination AND a.receiver = w.receiver
    WHERE a.minute >= (SELECT min(minute) FROM wanted) AND a.minute >= w.minute AND a.minute < w.minute + {width:UInt32}
        AND a.verdict IN ('waiting', 'overdue', 'in_flight', 'stuck')
    GROUP BY system, destination, receiver, message, a.version
    HAVING sum(a.sign) > 0
)
GROUP BY system, destination, receiver
