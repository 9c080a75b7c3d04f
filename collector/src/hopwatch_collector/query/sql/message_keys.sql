-- The message of an id or alias, with the times of its facts. An id under which facts were first told leads to the message too.
-- Parameters: id (hex of 16 bytes, or empty), alias.
SELECT message, min(started_at) AS first_at, max(started_at) AS last_at
FROM ledger
WHERE message IN
(
    SELECT toFixedString(unhex({id:String}), 16) WHERE {id:String} != ''
    UNION ALL
    SELECT message FROM aliases WHERE alias = {alias:String}
    UNION ALL
    SELECT known_as FROM strangers WHERE {id:String} != '' AND message = toFixedString(unhex({id:String}), 16)
)
GROUP BY message
HAVING min(moved) = 0
ORDER BY first_at DESC
LIMIT 100
