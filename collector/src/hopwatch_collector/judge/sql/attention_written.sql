-- What `attention` has of the messages picked, row by row, with what is left of each after taking back. Reads the whole table.
SELECT
    tenant, day, system, broker, destination, receiver, toInt64(toUnixTimestamp(minute)) AS minute, message, version, verdict, cause, open,
    toUnixTimestamp64Micro(a.first_at) AS first_at, toUnixTimestamp64Micro(a.since) AS since, toUnixTimestamp64Micro(a.next_at) AS next_at,
    partition, offset, producer, consumer, flow, toInt8(sum(sign)) AS rows
FROM attention AS a
WHERE message IN (SELECT message FROM picked)
GROUP BY
    tenant, day, system, broker, destination, receiver, minute, message, version, verdict, cause, open, a.first_at, a.since, a.next_at,
    partition, offset, producer, consumer, flow
HAVING rows != 0
