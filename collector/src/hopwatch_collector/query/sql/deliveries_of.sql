-- Deliveries of the messages named, oldest first. Parameters besides those of the stages: messages (hex), top.
-- stage: evidence_of_messages
-- stage: held
-- stage: verdicts
SELECT *
FROM deliveries
ORDER BY first_at, message, receiver
LIMIT {top:UInt32}
