-- What the brokers themselves say, asked by witnesses: what they hold for whom, what they gave up, and whether they answer.
-- Who is owed what goes into `receivers`, beside what services report of themselves.

-- One row per receiver and partition whenever something changed, and every quarter of an hour.
CREATE TABLE IF NOT EXISTS positions
(
    day Date CODEC(ZSTD(1)),
    system LowCardinality(String) CODEC(ZSTD(1)),
    destination LowCardinality(String) CODEC(ZSTD(1)),     -- Kafka: the topic; '' where receiver and partition say it all
    receiver LowCardinality(String) CODEC(ZSTD(1)),        -- consumer group, queue, stream/consumer
    partition LowCardinality(String) CODEC(ZSTD(1)),       -- Kafka partition, JetStream stream; '' for a queue
    at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    -- Of a log, as offsets; -1: not told, or no log.
    first Int64 CODEC(Delta(8), ZSTD(1)),                  -- the oldest still held
    end Int64 CODEC(Delta(8), ZSTD(1)),                    -- the next to be written
    next Int64 CODEC(Delta(8), ZSTD(1)),                   -- the next to be handed to this receiver
    done Int64 CODEC(Delta(8), ZSTD(1)),                   -- all before this one are settled
    -- Now; -1: not told.
    waiting Int64 CODEC(ZSTD(1)),
    in_hand Int64 CODEC(ZSTD(1)),                          -- handed out, not settled
    consumers Int64 CODEC(ZSTD(1)),
    oldest_at DateTime64(6, 'UTC') CODEC(ZSTD(1)),         -- when the oldest that waits was sent; 1970: not told
    -- Counters of a queue since it was declared; -1: not told.
    published Int64 CODEC(Delta(8), ZSTD(1)),
    handed Int64 CODEC(Delta(8), ZSTD(1)),                 -- deliveries, repeated ones too
    acked Int64 CODEC(Delta(8), ZSTD(1)),
    -- What the broker was told to do with messages nobody reads; -1: nothing.
    ttl_ms Int64 CODEC(ZSTD(1)),
    max_length Int64 CODEC(ZSTD(1)),
    dead_letters UInt8 CODEC(ZSTD(1)),                     -- 1: what is dropped goes to a dead-letter exchange
    state LowCardinality(String) CODEC(ZSTD(1))            -- '' there; 'gone': deleted; 'paused', 'empty': nobody is reading
)
ENGINE = {{MergeTree}}
PARTITION BY day
ORDER BY (system, receiver, destination, partition, at)
SETTINGS {{settings}};

-- What a broker said of one message: given up after so many deliveries, terminated, given back.
CREATE TABLE IF NOT EXISTS sightings
(
    day Date CODEC(ZSTD(1)),
    system LowCardinality(String) CODEC(ZSTD(1)),
    receiver LowCardinality(String) CODEC(ZSTD(1)),
    partition LowCardinality(String) CODEC(ZSTD(1)),
    offset Int64 CODEC(Delta(8), ZSTD(1)),
    kind LowCardinality(String) CODEC(ZSTD(1)),            -- max_deliveries, terminated
    attempts UInt32 CODEC(ZSTD(1)),
    at DateTime64(6, 'UTC') CODEC(ZSTD(1)),
    reason String CODEC(ZSTD(1))
)
ENGINE = {{ReplacingMergeTree}}
PARTITION BY day
ORDER BY (system, receiver, partition, offset, kind)
SETTINGS {{settings}};

-- Whether a witness could look: one row every ten seconds, and whenever that changed. All that was not written anew by
-- then was as before.
CREATE TABLE IF NOT EXISTS watches
(
    day Date CODEC(ZSTD(1)),
    system LowCardinality(String) CODEC(ZSTD(1)),
    broker LowCardinality(String) CODEC(ZSTD(1)),          -- its address, without a password
    at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    ok UInt8 CODEC(ZSTD(1)),
    trouble String CODEC(ZSTD(1)),                         -- why not
    requests UInt32 CODEC(ZSTD(1)),                        -- that the last look took
    took_ms UInt32 CODEC(ZSTD(1))
)
ENGINE = {{MergeTree}}
PARTITION BY day
ORDER BY (system, broker, at)
SETTINGS {{settings}};

-- Receivers whose consumers tell what they receive: of such a one, silence says something.
CREATE TABLE IF NOT EXISTS telling
(
    day Date,
    system LowCardinality(String),
    receiver LowCardinality(String),
    service LowCardinality(String),
    last_at SimpleAggregateFunction(max, DateTime64(6, 'UTC'))
)
ENGINE = {{AggregatingMergeTree}}
PARTITION BY day
ORDER BY (system, receiver, service)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS telling_from_incoming TO telling AS
SELECT day, system, receiver, service, max(toDateTime64(started_at, 6, 'UTC')) AS last_at
FROM incoming
WHERE role = 'receive' AND receiver != ''
GROUP BY day, system, receiver, service;
