-- Where else a service sent to in a stretch of time, and who received it: the one who received something last first.
-- Parameters: system, producer, destination; since, until; top.
SELECT destination, receiver, max(received_at) AS last_at
FROM deliveries
WHERE minute >= toDateTime({since:DateTime64(6)}, 'UTC') AND minute <= toDateTime({until:DateTime64(6)}, 'UTC')
    AND system = {system:String} AND producer = {producer:String} AND destination != {destination:String} AND receiver != ''
GROUP BY destination, receiver
HAVING sum(sign) > 0 AND last_at > toDateTime64(0, 6, 'UTC')
ORDER BY last_at DESC, destination, receiver
LIMIT {top:UInt32}
