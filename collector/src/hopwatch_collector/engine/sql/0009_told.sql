-- What is told of single messages besides hops: how long each may live, by its sender; where the broker routed it and from
-- which queue it handed it out, by RabbitMQ's firehose.
CREATE TABLE IF NOT EXISTS told
(
    day Date CODEC(ZSTD(1)),
    message FixedString(16) CODEC(ZSTD(1)),
    receiver LowCardinality(String) CODEC(ZSTD(1)),        -- '': of the message for whomever
    kind Enum8('ttl' = 1, 'published' = 2, 'routed' = 3, 'handed' = 4, 'gap' = 5) CODEC(ZSTD(1)),  -- gap: of no message; all is heard from then on
    at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    number Int64 CODEC(ZSTD(1))                            -- ttl: milliseconds; handed: 1 if not for the first time
)
ENGINE = {{ReplacingMergeTree}}
PARTITION BY day
ORDER BY (message, receiver, kind, at)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS told_by_senders TO told AS
SELECT
    if(toDate(started_at) BETWEEN today() - 60 AND today() + 1, toDate(started_at), today()) AS day,
    travelled AS message,
    '' AS receiver,
    'ttl' AS kind,
    toDateTime64(started_at, 6, 'UTC') AS at,
    toInt64OrZero(a['hopwatch.message.ttl']) AS number
FROM recognised
WHERE role = 'send' AND own_id AND match(a['hopwatch.message.ttl'], '^[0-9]{1,12}$');

-- A queue that dead letters come to: they are in none of its counters of what was routed to it.
ALTER TABLE positions ADD COLUMN IF NOT EXISTS uncounted UInt8 DEFAULT 0 CODEC(ZSTD(1));
