-- Who received something of what was sent in the window, when last, and what its client then said still waited (-1: nothing).
-- Parameters: since, until (s); top.
SELECT
    system, destination, receiver, sum(sign) AS deliveries, max(received_at) AS last_received_at,
    argMaxIf(pending, received_at, pending >= 0 AND attempts > 0) AS last_pending,
    maxIf(received_at, pending >= 0 AND attempts > 0) AS pending_at
FROM deliveries
WHERE minute >= toDateTime({since:Int64}, 'UTC') AND minute <= toDateTime({until:Int64}, 'UTC') AND receiver != '' AND call = 0
GROUP BY system, destination, receiver
HAVING sum(sign) > 0
ORDER BY system, destination, receiver
LIMIT {top:UInt32}
