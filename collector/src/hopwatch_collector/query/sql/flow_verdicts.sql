-- How the deliveries of the messages named stand, per flow. Parameters besides those of the stages: messages (hex).
-- stage: evidence_of_messages
-- stage: held
-- stage: verdicts
SELECT flow, verdict, count() AS deliveries
FROM deliveries
GROUP BY flow, verdict
