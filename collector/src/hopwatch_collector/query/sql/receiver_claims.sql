-- What receivers were entitled to, as services and brokers told. Parameters: system; receivers; top.
SELECT
    receiver, pattern,
    min(r.first_at) AS first_at,
    max(r.last_at) AS last_at,
    max(r.unsubscribed_at) AS left_at,
    max(r.durable) AS durable,
    max(r.service) AS service
FROM receivers AS r
WHERE system = {system:String} AND receiver IN {receivers:Array(String)}
GROUP BY receiver, pattern
ORDER BY receiver, first_at
LIMIT {top:UInt32} BY receiver
