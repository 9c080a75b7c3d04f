-- Undelivered messages by cause, destination and receiver, the most frequent first.
-- Parameters besides those of the stages: undelivered (the verdicts that count so); destination, receiver, service (empty: any); top.
-- stage: picked_in_window
-- stage: verdicts
SELECT
    verdict, cause, system, destination, receiver,
    count() AS deliveries,
    min(d.first_at) AS first_at,
    max(d.first_at) AS last_at,
    argMax(why, d.first_at) AS why,
    arrayMap(x -> x.2, groupArraySorted(5)((-toUnixTimestamp64Micro(d.first_at), message))) AS samples
FROM deliveries AS d
WHERE has({undelivered:Array(String)}, verdict)
    AND ({destination:String} = '' OR destination = {destination:String})
    AND ({receiver:String} = '' OR receiver = {receiver:String})
    AND ({service:String} = '' OR producer = {service:String} OR consumer = {service:String})
GROUP BY verdict, cause, system, destination, receiver
ORDER BY deliveries DESC, last_at DESC, destination, receiver
LIMIT {top:UInt32}
