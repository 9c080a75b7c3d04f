-- Places of which positions are known and that have not gone, of receivers that a witness wrote claims of, and of what the
-- broker that it asks says it is: another broker or virtual host has others.
-- Parameters: system; resource (the witness's id); told (identities of the broker).
SELECT
    p.receiver AS receiver, p.partition AS partition, p.destination AS destination,
    max(p.at) AS last_at, argMax(p.broker, p.at) AS broker, argMax(p.incarnation, p.at) AS incarnation,
    argMax((p.first, p.end, p.next, p.done, p.waiting, p.in_hand, p.consumers, p.heard_from), p.at) AS stands
FROM receiver_states AS p
WHERE p.system = {system:String}
    AND (p.broker IN {told:Array(String)}
        OR (p.receiver, p.broker) IN
            (SELECT s.receiver, s.broker FROM subscriptions AS s WHERE s.system = {system:String} AND s.resource = {resource:UInt64}))
GROUP BY receiver, partition, destination
HAVING argMax(p.state, p.at) != 'gone'
