-- What is open, whenever it was sent, by receiver; and in which minute the oldest that waits was sent. Parameters: verdicts; top.
SELECT
    system, destination, receiver,
    sumIf(minute_deliveries, verdict IN ('waiting', 'overdue') AND cause != 'waiting.delayed') AS waiting,
    sumIf(minute_deliveries, verdict IN ('in_flight', 'stuck')) AS in_flight,
    minIf(minute, verdict IN ('waiting', 'overdue') AND cause != 'waiting.delayed') AS oldest_minute,
    min(minute) AS open_minute
FROM
(
    SELECT system, destination, receiver, verdict, cause, minute, sum(sign) AS minute_deliveries
    FROM attention
    WHERE verdict IN ('waiting', 'overdue', 'in_flight', 'stuck')
    GROUP BY system, destination, receiver, verdict, cause, minute
    HAVING sum(sign) > 0
)
WHERE receiver != ''
GROUP BY system, destination, receiver
ORDER BY waiting DESC, in_flight DESC, system, destination, receiver
LIMIT {top:UInt32}
