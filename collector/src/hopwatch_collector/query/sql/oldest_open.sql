-- The oldest rows of some receivers that are open, from the minutes in which they are known to be.
-- Parameters: names (of open_counts.sql), minutes (s; side by side); width (s); first, until (s; around all of these minutes).
SELECT
    system, destination, receiver,
    minIf(since, verdict IN ('waiting', 'overdue') AND cause != 'waiting.delayed') AS oldest,
    arrayMap(x -> lower(hex(x.2)), groupArraySorted(5)((since, flow))) AS samples
FROM
(
    SELECT
        a.system AS system, a.destination AS destination, a.receiver AS receiver, a.message AS message, any(a.verdict) AS verdict, any(a.cause) AS cause,
        any(a.since) AS since, any(a.flow) AS flow, toDateTime(transform(cityHash64(system, destination, receiver), {names:Array(UInt64)}, {minutes:Array(Int64)}, toInt64(0)), 'UTC') AS began
    FROM attention AS a
    WHERE a.minute >= toDateTime({first:Int64}, 'UTC') AND a.minute < toDateTime({until:Int64}, 'UTC')
        AND a.minute >= began AND a.minute < began + {width:UInt32}
        AND a.verdict IN ('waiting', 'overdue', 'in_flight', 'stuck')
    GROUP BY system, destination, receiver, message, began, a.version
    HAVING sum(a.sign) > 0
)
GROUP BY system, destination, receiver
