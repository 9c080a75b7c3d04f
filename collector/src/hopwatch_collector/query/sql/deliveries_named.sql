-- Deliveries of some of the messages judged, oldest first. Parameters besides those of the stages: messages and, of these, named
-- (hex); top.
-- stage: picked_of_messages
-- stage: verdicts
SELECT *
FROM deliveries
WHERE message IN (SELECT toFixedString(unhex(arrayJoin({named:Array(String)})), 16))
ORDER BY first_at, message, receiver
LIMIT {top:UInt32}
