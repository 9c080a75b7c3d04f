-- Of deliveries of the messages named what a list of hits shows and is filtered by, oldest first. Parameters: messages (hex), top.
SELECT message, receiver, verdict, destination, producer, consumer, flow, first_at
FROM deliveries FINAL
WHERE tenant = '' AND message IN (SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16)) AND sign = 1
ORDER BY first_at, message, receiver
LIMIT {top:UInt32}
