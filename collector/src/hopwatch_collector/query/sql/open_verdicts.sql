-- What is open, whenever it was sent, by verdict and receiver.
SELECT system, destination, receiver, verdict, sum(sign) AS deliveries
FROM attention
WHERE verdict IN ('waiting', 'overdue', 'in_flight', 'stuck')
GROUP BY system, destination, receiver, verdict
HAVING sum(sign) > 0
