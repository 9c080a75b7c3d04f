-- Who reached whom, per minute, where both ends have been seen. Parameters: those of verdicts.sql.
WITH
picked AS
(
    SELECT DISTINCT message
    FROM ledger
    WHERE started_at >= {since:DateTime64(6)} AND started_at <= {until:DateTime64(6)}
        AND day BETWEEN toDate({since:DateTime64(6)}) AND toDate({until:DateTime64(6)}) + 1
),
-- include: verdicts
SELECT
    toDate(minute) AS day,
    toStartOfMinute(toDateTime(first_at, 'UTC')) AS minute,
    producer AS client, consumer AS server, system, destination, receiver,
    count() AS requests,
    countIf(failed OR verdict = 'dead_lettered') AS failed,
    {now:DateTime64(6)} AS written_at
FROM deliveries AS d
WHERE producer != '' AND consumer != '' AND first_at >= {since:DateTime64(6)}
GROUP BY minute, client, server, system, destination, receiver
