-- Under what brokers are known: by what clients and witnesses tell of them, and by the name they are watched under ('': not watched), the
-- newest name last; and when that was first learnt, in ms.
SELECT system, told, name, toUnixTimestamp64Milli(min(b.seen_at)) AS seen_at
FROM brokers AS b
GROUP BY system, told, name
ORDER BY max(b.last_at)
