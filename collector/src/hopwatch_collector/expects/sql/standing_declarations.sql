-- Expectations that hold.
SELECT system, receiver, pattern, from_at, prefix, expression, source
FROM declared FINAL
WHERE until_at > now64(6) + INTERVAL 1 YEAR
