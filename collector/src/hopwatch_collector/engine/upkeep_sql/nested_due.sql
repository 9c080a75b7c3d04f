-- Of some keys (hex) those under which something is told that has not been given to another. Parameters: messages.
SELECT DISTINCT hex(message) AS message
FROM
(
    SELECT message
    FROM ledger
    WHERE message IN (SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16))
    GROUP BY message, receiver, attempt, hop
    HAVING NOT max(moved)
)
