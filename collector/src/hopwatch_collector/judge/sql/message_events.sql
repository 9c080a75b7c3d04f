-- What was told of the messages picked besides their hops. Times in µs.
SELECT DISTINCT message, receiver, toString(kind) AS kind, toUnixTimestamp64Micro(at) AS at, number
FROM told
WHERE message IN (SELECT message FROM picked)
