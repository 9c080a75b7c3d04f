-- How the deliveries of the messages named stand, per flow. Parameters besides those of verdicts.sql: messages (hex).
WITH
picked AS
(
    SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16) AS message
),
-- include: verdicts
SELECT flow, verdict, count() AS deliveries
FROM deliveries
GROUP BY flow, verdict
