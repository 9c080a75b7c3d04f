-- Claims that a witness has written and not taken back. Parameters: system; resource (its id).
SELECT pattern, receiver, durable, r.broker AS broker, min(r.first_at) AS first_at
FROM subscriptions AS r
WHERE system = {system:String} AND resource = {resource:UInt64}
GROUP BY pattern, receiver, durable, r.broker
HAVING max(r.unsubscribed_at) <= max(r.last_at)
