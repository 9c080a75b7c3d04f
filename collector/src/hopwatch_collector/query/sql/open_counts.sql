-- What is open, whenever it was sent, by receiver: how much of it has which verdict, and in which minute the oldest that waits was
-- sent. `name`: what the three are called in oldest_open.sql.
SELECT
    system, destination, receiver, cityHash64(system, destination, receiver) AS name,
    sumMap(map(toString(verdict), minute_deliveries)) AS verdicts,
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
GROUP BY system, destination, receiver
ORDER BY waiting DESC, in_flight DESC, system, destination, receiver
