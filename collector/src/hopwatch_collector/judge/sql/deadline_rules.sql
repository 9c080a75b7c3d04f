-- Deadlines that hold, in their order.
SELECT number, system, destination, prefix, expression, receiver, seconds
FROM deadline_rules FINAL
WHERE declared_at = (SELECT max(declared_at) FROM deadline_rules) AND number > 0
ORDER BY number
