-- Messages that an id or alias may mean besides the one of that very id: those known by that alias, the latest days' first, and
-- the one that facts told under the id are about. Parameters: id (hex of 16 bytes, or empty), alias.
SELECT message
FROM
(
    SELECT message FROM aliases WHERE alias = {alias:String} GROUP BY message ORDER BY max(day) DESC, message DESC LIMIT 1000
    UNION ALL
    SELECT known_as AS message FROM strangers WHERE {id:String} != '' AND message = toFixedString(unhex({id:String}), 16)
)
WHERE message != toFixedString('', 16)
