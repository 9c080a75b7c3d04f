-- Deliveries of what was sent in the window, by verdict and receiver. Parameters: since, until (s).
SELECT system, destination, receiver, verdict, sum(sign) AS deliveries
FROM deliveries
WHERE minute >= toDateTime({since:Int64}, 'UTC') AND minute <= toDateTime({until:Int64}, 'UTC')
GROUP BY system, destination, receiver, verdict
HAVING sum(sign) > 0
