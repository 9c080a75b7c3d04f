-- Under what brokers are known: by what clients and witnesses tell of them, and by the name they are watched under ('': not watched),
-- the newest name last.
SELECT system, told, name FROM brokers AS b GROUP BY system, told, name ORDER BY max(b.last_at)
