-- Places of which positions are known and that have not gone. Parameters: system.
SELECT
    receiver, partition, destination,
    argMax((p.first, p.end, p.next, p.done, p.waiting, p.in_hand, p.consumers, p.heard_from), p.at) AS stands
FROM positions AS p
WHERE system = {system:String}
GROUP BY receiver, partition, destination
HAVING argMax(state, at) != 'gone'
