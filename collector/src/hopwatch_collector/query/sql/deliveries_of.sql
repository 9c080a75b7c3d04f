-- Deliveries of the messages named, oldest first. Parameters: messages (hex), top.
SELECT
-- include: delivery_columns
FROM deliveries FINAL
WHERE tenant = '' AND message IN (SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16)) AND sign = 1
ORDER BY first_at, message, receiver
LIMIT {top:UInt32}
