-- Stage: Kafka's commits since the first of the messages in `messages`, in the topics of these, into `committed`.
-- Parameters: since; clock_processes, clock_us and clock_slack as in titles.sql.
-- from: commits
CREATE OR REPLACE TEMPORARY TABLE committed ENGINE = Memory AS
SELECT
    destination, receiver, partition, offset,
    transform(max(c.resource), {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0)) AS off_us,
    min(c.at) - toIntervalMicrosecond(off_us) AS at,
    max(c.last_at) - toIntervalMicrosecond(off_us) AS last_at
FROM commits AS c
WHERE c.last_at >= {since:DateTime64(6)} - toIntervalSecond(60 + {clock_slack:UInt32})
    AND destination IN (SELECT destination FROM messages WHERE system = 'kafka')
GROUP BY destination, receiver, partition, offset
