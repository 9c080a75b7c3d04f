-- Where receivers were moved to, past messages they had not read or back to those they had: a Kafka consumer's seeks.
CREATE TABLE IF NOT EXISTS moves
(
    day Date CODEC(ZSTD(1)),
    destination LowCardinality(String) CODEC(ZSTD(1)),
    receiver LowCardinality(String) CODEC(ZSTD(1)),
    partition LowCardinality(String) CODEC(ZSTD(1)),
    offset Int64 CODEC(Delta(8), ZSTD(1)),                 -- the next it would have read
    until Int64 CODEC(Delta(8), ZSTD(1)),                  -- the next it reads
    at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    resource UInt64 CODEC(ZSTD(1))                         -- who told it: whose clock `at` was read from
)
ENGINE = {{ReplacingMergeTree}}
PARTITION BY day
ORDER BY (receiver, destination, partition, at, offset, until)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS moves_from_recognised TO moves AS
SELECT
    if(toDate(started_at) BETWEEN today() - 60 AND today() + 1, toDate(started_at), today()) AS day,
    leftUTF8(a['hopwatch.destination'], 512) AS destination,
    leftUTF8(a['hopwatch.receiver'], 512) AS receiver,
    leftUTF8(a['messaging.destination.partition.id'], 256) AS partition,
    ifNull(toInt64OrNull(a['messaging.kafka.offset']), -1) AS offset,
    ifNull(toInt64OrNull(a['hopwatch.skipped.until']), -1) AS until,
    toDateTime64(started_at, 6, 'UTC') AS at,
    resource
FROM recognised
WHERE a['hopwatch.report'] = 'skip' AND offset >= 0 AND until >= 0;

-- JetStream: of offsets from this one on, every advisory of giving up and terminating was heard; -1: of none.
ALTER TABLE positions ADD COLUMN IF NOT EXISTS heard_from Int64 DEFAULT -1 CODEC(Delta(8), ZSTD(1));
