-- How the deliveries of the messages named stand, per flow. Parameters besides those of the stages: messages (hex).
-- stage: picked_of_messages
-- stage: verdicts
SELECT flow, verdict, count() AS deliveries
FROM deliveries
GROUP BY flow, verdict
