-- How the deliveries of the messages named stand, per flow. Parameters besides those of verdicts.sql: messages (hex).
-- stage: judged_messages
SELECT flow, verdict, count() AS deliveries
FROM deliveries
GROUP BY flow, verdict
