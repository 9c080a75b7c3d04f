-- Deliveries of the messages named, oldest first. Parameters besides those of verdicts.sql: messages (hex), top.
-- stage: judged_messages
SELECT *
FROM deliveries
ORDER BY first_at, message, receiver
LIMIT {top:UInt32}
