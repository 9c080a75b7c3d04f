-- Deliveries of the messages named, oldest first. Parameters besides those of verdicts.sql: messages (hex), top.
WITH
picked AS
(
    SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16) AS message
),
-- include: verdicts
SELECT *
FROM deliveries
ORDER BY first_at, message, receiver
LIMIT {top:UInt32}
