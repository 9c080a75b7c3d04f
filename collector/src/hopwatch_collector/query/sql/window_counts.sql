-- Deliveries of what was sent in the window, by verdict and receiver; when it last received something, and what its client then
-- said still waited (-1: nothing). Parameters: since, until (s).
SELECT
    system, destination, receiver, verdict, call, sum(sign) AS deliveries, max(received_at) AS last_received_at,
    argMaxIf(pending, received_at, pending >= 0 AND attempts > 0) AS last_pending,
    maxIf(received_at, pending >= 0 AND attempts > 0) AS pending_at
FROM deliveries
WHERE minute >= toDateTime({since:Int64}, 'UTC') AND minute <= toDateTime({until:Int64}, 'UTC')
GROUP BY system, destination, receiver, verdict, call
HAVING sum(sign) > 0
