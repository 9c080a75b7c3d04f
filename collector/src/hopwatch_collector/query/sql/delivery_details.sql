-- What the evidence adds to the causes of some deliveries. Parameters: messages (hex).
SELECT message, receiver, cause, detail
FROM deliveries
WHERE tenant = '' AND message IN (SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16))
GROUP BY message, receiver, cause, detail, version
HAVING sum(sign) > 0
