-- Kafka's commits beyond the messages picked. `{{places}}` stands for one condition per group and partition, so that each is read
-- by its key only. Times in µs.
SELECT
    broker, destination, receiver, partition, offset,
    toUnixTimestamp64Micro(min(c.at)) AS at, toUnixTimestamp64Micro(max(c.last_at)) AS last_at, max(c.resource) AS resource
FROM commits AS c
WHERE {{places}}
GROUP BY broker, destination, receiver, partition, offset
