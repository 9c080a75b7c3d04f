-- Places of which positions are known and that have not gone. Parameters: system.
SELECT receiver, partition, destination
FROM positions
WHERE system = {system:String}
GROUP BY receiver, partition, destination
HAVING argMax(state, at) != 'gone'
