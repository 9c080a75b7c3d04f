-- Mark the facts under the old key as moved, so that they are not told twice. Parameters: messages (hex).
INSERT INTO ledger (day, message, receiver, attempt, hop, started_at, moved)
SELECT day, message, receiver, attempt, hop, started_at, 1 AS moved
FROM ledger
WHERE message IN (SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16)) AND receiver != ''
