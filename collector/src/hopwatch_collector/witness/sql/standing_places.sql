-- Places of which positions are known and that have not gone, of receivers that a witness wrote claims of: another broker
-- or virtual host has others. Parameters: system; resource (its id).
SELECT
    receiver, partition, destination,
    argMax((p.first, p.end, p.next, p.done, p.waiting, p.in_hand, p.consumers, p.heard_from), p.at) AS stands
FROM receiver_states AS p
WHERE system = {system:String}
    AND receiver IN (SELECT receiver FROM subscriptions WHERE system = {system:String} AND resource = {resource:UInt64})
GROUP BY receiver, partition, destination
HAVING argMax(state, at) != 'gone'
