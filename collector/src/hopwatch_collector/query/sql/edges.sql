-- Who reached whom through what, in the window. Parameters: since, until (s); undelivered (the verdicts that count so); top.
SELECT
    producer, system, destination, receiver, consumer,
    sum(part) AS deliveries,
    sumIf(part, has({undelivered:Array(String)}, verdict)) AS undelivered,
    sum(part_errors) AS errors,
    sum(part_backwards) AS backwards,
    sumMap(part_waits) AS waits
FROM
(
    SELECT
        producer, system, destination, receiver, consumer, verdict,
        sum(sign) AS part, sum(sign * failed) AS part_errors, sum(sign * backwards) AS part_backwards,
        sumMap([received_in], [toInt64(sign)]) AS part_waits
    FROM deliveries
    WHERE minute >= toDateTime({since:Int64}, 'UTC') AND minute <= toDateTime({until:Int64}, 'UTC')
    GROUP BY producer, system, destination, receiver, consumer, verdict
    HAVING sum(sign) > 0
)
GROUP BY producer, system, destination, receiver, consumer
ORDER BY deliveries DESC, producer, destination, receiver
LIMIT {top:UInt32}
