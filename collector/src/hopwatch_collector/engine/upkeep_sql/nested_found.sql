-- Of the sends told within another span in a stretch of time those that are about the same message as a send around them: what is told
-- under `message` (a key) belongs to `known_as`, which is the id the message has, or the key of the outermost. A span around several
-- sends is about none of them. Parameters: after, until (µs).
WITH told AS
(
    SELECT key, message AS id, within, system, destination, service
    FROM nested_sends
    WHERE told_at > fromUnixTimestamp64Micro({after:Int64}, 'UTC') AND told_at <= fromUnixTimestamp64Micro({until:Int64}, 'UTC')
        AND day >= toDate(fromUnixTimestamp64Micro({after:Int64}, 'UTC'))
)
SELECT hex(if(t.id = t.key, t.key, t.within)) AS message, hex(if(t.id = t.key, t.within, t.id)) AS known_as
FROM
(
    SELECT any(told.key) AS key, any(told.id) AS id, within, system, any(told.destination) AS destination, service
    FROM told
    GROUP BY within, system, service
    HAVING uniqExact(told.key) = 1
) AS t
INNER JOIN
(
    SELECT message, system, destination, service
    FROM ledger
    WHERE message IN (SELECT within FROM told) AND receiver = ''
    GROUP BY message, system, destination, service
) AS around ON around.message = t.within AND around.system = t.system AND around.service = t.service
WHERE around.destination = t.destination OR t.id != t.key
