-- Undelivered messages by cause, destination and receiver, the most frequent first, and the minutes of the first and the last.
-- Parameters: since, until (s); undelivered (the verdicts that count so); destination, receiver, service (empty: any); top.
SELECT
    verdict, cause, system, destination, receiver,
    sum(minute_deliveries) AS deliveries, min(minute) AS first_minute, max(minute) AS last_minute
FROM
(
    SELECT verdict, cause, system, destination, receiver, minute, sum(sign) AS minute_deliveries
    FROM deliveries
    WHERE minute >= toDateTime({since:Int64}, 'UTC') AND minute <= toDateTime({until:Int64}, 'UTC')
        AND has({undelivered:Array(String)}, verdict)
        AND ({destination:String} = '' OR destination = {destination:String})
        AND ({receiver:String} = '' OR receiver = {receiver:String})
        AND ({service:String} = '' OR producer = {service:String} OR consumer = {service:String})
    GROUP BY verdict, cause, system, destination, receiver, minute
    HAVING sum(sign) > 0
)
GROUP BY verdict, cause, system, destination, receiver
ORDER BY deliveries DESC, last_minute DESC, destination, receiver, cause
LIMIT {top:UInt32}
