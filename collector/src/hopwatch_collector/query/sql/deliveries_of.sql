-- Deliveries of the messages named, oldest first. Parameters besides those of the stages: messages (hex), top.
-- stage: picked_of_messages
-- stage: verdicts
SELECT *
FROM deliveries
ORDER BY first_at, message, receiver
LIMIT {top:UInt32}
