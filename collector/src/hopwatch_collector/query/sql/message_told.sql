-- What was told of a message besides hops. Parameter: message (hex).
SELECT receiver, toString(kind) AS kind, at, max(number) AS number
FROM told
WHERE message = toFixedString(unhex({message:String}), 16)
GROUP BY receiver, kind, at
ORDER BY at
LIMIT 1000
