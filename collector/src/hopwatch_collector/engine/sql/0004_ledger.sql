-- The ledger: the fold of all facts into one row per (message, receiver, attempt, hop). Every column folds with a
-- commutative, idempotent function, so order, repetition and lateness of facts never change the result.
--   receiver '' and attempt 0    what the sender saw
--   a receiver and attempt 1…    one handing-over to that receiver
--   a receiver and attempt 0     what is known of the delivery but of no single attempt (dead-lettered)
-- Kafka counts no attempts and AMQP says only "again", so the hop, the span of one handing-over, tells them apart.

CREATE TABLE IF NOT EXISTS ledger
(
    day Date CODEC(ZSTD(1)),
    message FixedString(16) CODEC(ZSTD(1)),
    receiver LowCardinality(String) CODEC(ZSTD(1)),
    attempt UInt16 CODEC(ZSTD(1)),
    hop FixedString(8) CODEC(ZSTD(1)),      -- zeros: not told (other instrumentations have several spans for one handing-over)
    started_at SimpleAggregateFunction(min, DateTime64(6, 'UTC')) CODEC(Delta(8), ZSTD(1)),  -- sent, received, dead-lettered
    ended_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) CODEC(Delta(8), ZSTD(1)),    -- 1970: not yet
    call SimpleAggregateFunction(max, UInt8) CODEC(ZSTD(1)),                                   -- HTTP, gRPC: answered by the callee
    system SimpleAggregateFunction(max, LowCardinality(String)) CODEC(ZSTD(1)),
    destination SimpleAggregateFunction(max, LowCardinality(String)) CODEC(ZSTD(1)),
    service SimpleAggregateFunction(max, LowCardinality(String)) CODEC(ZSTD(1)),               -- sender's or receiver's
    peer SimpleAggregateFunction(max, LowCardinality(String)) CODEC(ZSTD(1)),                  -- calls: the address called
    trace_id SimpleAggregateFunction(max, FixedString(16)) CODEC(ZSTD(1)),
    flow SimpleAggregateFunction(max, FixedString(16)) CODEC(ZSTD(1)),                         -- zeros: the trace id
    outcome SimpleAggregateFunction(max, Enum8(
        '' = 0, 'sent' = 1, 'unconfirmed' = 2, 'returned' = 3, 'refused' = 4, 'duplicate' = 5, 'confirmed' = 6)) CODEC(ZSTD(1)),
    -- Ordered so that the maximum is what settles most: a settlement outdoes `none`, an ack outdoes giving back.
    settle SimpleAggregateFunction(max, Enum8(
        '' = 0, 'none' = 1, 'auto' = 2, 'commit' = 3, 'nack' = 4, 'requeue' = 5, 'reject' = 6, 'term' = 7, 'ack' = 8)) CODEC(ZSTD(1)),
    failed SimpleAggregateFunction(max, UInt8) CODEC(ZSTD(1)),
    dead SimpleAggregateFunction(max, UInt8) CODEC(ZSTD(1)),
    error SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    reason SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    partition SimpleAggregateFunction(max, LowCardinality(String)) CODEC(ZSTD(1)),
    offset SimpleAggregateFunction(max, Int64) DEFAULT -1 CODEC(Delta(8), ZSTD(1)),                       -- -1: none
    pending SimpleAggregateFunction(max, Int64) DEFAULT -1 CODEC(ZSTD(1)),                                -- -1: not said
    conversation SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    keys SimpleAggregateFunction(groupUniqArrayArray, Array(Tuple(String, String))) CODEC(ZSTD(1)),
    moved SimpleAggregateFunction(max, UInt8) CODEC(ZSTD(1)),                                  -- 1: now told under another key

    INDEX by_time started_at TYPE minmax GRANULARITY 1
)
ENGINE = {{AggregatingMergeTree}}
PARTITION BY day
ORDER BY (message, receiver, attempt, hop)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS ledger_from_incoming TO ledger AS
WITH role IN ('send', 'call') AS sends
SELECT
    day,
    arrayJoin(if(empty(messages), [message], messages)) AS message,
    if(sends, '', receiver) AS receiver,
    attempt,
    -- Reports of open hops and late settlements are children of the hop they are about.
    multiIf(
        NOT startsWith(scope, 'hopwatch.'), toFixedString('', 8),
        role = 'receive', span_id,
        role IN ('open', 'settle'), parent_id,
        toFixedString('', 8)) AS hop,
    toDateTime64(started_at, 6, 'UTC') AS started_at,
    -- A report of an open hop says that it began, not that it ended.
    if(role = 'open', toDateTime64(0, 6, 'UTC'), toDateTime64(addNanoseconds(started_at, duration), 6, 'UTC')) AS ended_at,
    role IN ('call', 'serve') AS call,
    system,
    destination,
    service,
    peer,
    trace_id,
    flow,
    -- Unknown words count as the weakest known one rather than stop the batch.
    CAST(transform(outcome, ['', 'sent', 'unconfirmed', 'returned', 'refused', 'duplicate', 'confirmed'], [0, 1, 2, 3, 4, 5, 6], 1),
        'Enum8(\'\' = 0, \'sent\' = 1, \'unconfirmed\' = 2, \'returned\' = 3, \'refused\' = 4, \'duplicate\' = 5, \'confirmed\' = 6)') AS outcome,
    CAST(if(role = 'open', 0, transform(settle, ['', 'none', 'auto', 'commit', 'nack', 'requeue', 'reject', 'term', 'ack'], [0, 1, 2, 3, 4, 5, 6, 7, 8], 1)),
        'Enum8(\'\' = 0, \'none\' = 1, \'auto\' = 2, \'commit\' = 3, \'nack\' = 4, \'requeue\' = 5, \'reject\' = 6, \'term\' = 7, \'ack\' = 8)') AS settle,
    status = 'error' AS failed,
    error,
    reason,
    partition,
    offset,
    pending,
    conversation,
    CAST(keys, 'Array(Tuple(String, String))') AS keys
FROM incoming
WHERE message != toFixedString('', 16);

-- A dead-lettered copy that is read tells what became of the original for the receiver it was owed to.
CREATE MATERIALIZED VIEW IF NOT EXISTS ledger_from_dead_letters TO ledger AS
SELECT
    day,
    message,
    dead_receiver AS receiver,
    toDateTime64(started_at, 6, 'UTC') AS started_at,
    toDateTime64(started_at, 6, 'UTC') AS ended_at,
    system,
    trace_id,
    flow,
    1 AS dead,
    dead_reason AS reason
FROM incoming
WHERE dead_receiver != '' AND message != toFixedString('', 16);

-- How far Kafka groups have committed. Offsets are the next to read.
CREATE TABLE IF NOT EXISTS commits
(
    day Date CODEC(ZSTD(1)),
    destination LowCardinality(String) CODEC(ZSTD(1)),
    receiver LowCardinality(String) CODEC(ZSTD(1)),
    partition LowCardinality(String) CODEC(ZSTD(1)),
    offset Int64 CODEC(Delta(8), ZSTD(1)),
    at SimpleAggregateFunction(min, DateTime64(6, 'UTC')) CODEC(Delta(8), ZSTD(1)),
    last_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) CODEC(Delta(8), ZSTD(1))
)
ENGINE = {{AggregatingMergeTree}}
PARTITION BY day
ORDER BY (destination, receiver, partition, offset)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS commits_from_incoming TO commits AS
SELECT
    day, destination, receiver, partition, offset,
    toDateTime64(started_at, 6, 'UTC') AS at,
    toDateTime64(started_at, 6, 'UTC') AS last_at
FROM incoming
WHERE role = 'commit' AND offset >= 0;

-- Who was entitled to what, and when: one row per subscriber and 15 s (how often it says so), so that gaps stay visible.
CREATE TABLE IF NOT EXISTS receivers
(
    day Date,
    system LowCardinality(String),
    pattern LowCardinality(String),
    receiver LowCardinality(String),
    durable UInt8,
    resource UInt64,                                                                   -- the subscribing process
    span_of_time DateTime('UTC'),                                                      -- start of the 15 s
    service SimpleAggregateFunction(max, LowCardinality(String)),
    first_at SimpleAggregateFunction(min, DateTime64(6, 'UTC')),                       -- 2299: not subscribed
    last_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    unsubscribed_at SimpleAggregateFunction(max, DateTime64(6, 'UTC'))                 -- 1970: never
)
ENGINE = {{AggregatingMergeTree}}
PARTITION BY day
ORDER BY (system, pattern, receiver, durable, resource, span_of_time)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS receivers_from_incoming TO receivers AS
SELECT
    day,
    system,
    pattern,
    receiver,
    durable,
    resource,
    toStartOfInterval(toDateTime(started_at, 'UTC'), INTERVAL 15 SECOND) AS span_of_time,
    service,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64('2299-01-01 00:00:00', 6, 'UTC')) AS first_at,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS last_at,
    if(role = 'unsubscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS unsubscribed_at
FROM incoming
WHERE role IN ('subscribe', 'unsubscribe') AND pattern != '' AND receiver != '';

-- Other names a message is known by: ids of the application or the broker.
CREATE TABLE IF NOT EXISTS aliases
(
    day Date,
    alias String CODEC(ZSTD(1)),
    message FixedString(16) CODEC(ZSTD(1))
)
ENGINE = {{ReplacingMergeTree}}
PARTITION BY day
ORDER BY (alias, message)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS aliases_from_incoming TO aliases AS
SELECT day, arrayJoin(aliases) AS alias, message
FROM incoming
WHERE notEmpty(aliases) AND message != toFixedString('', 16);

-- Facts of receivers that knew only the context that sent the message, not its id. `maintain` looks for the sender.
CREATE TABLE IF NOT EXISTS strangers
(
    day Date,
    message FixedString(16),                -- the key the facts are told under
    origin_trace FixedString(16),
    origin_span FixedString(8),
    known_as FixedString(16),               -- the message id, once found; zeros: not yet; the key itself: the sender has none
    seen_at DateTime64(6, 'UTC')            -- when the facts were told, or when the id was found
)
ENGINE = {{ReplacingMergeTree seen_at}}
PARTITION BY day
ORDER BY (message, known_as)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS strangers_from_incoming TO strangers AS
SELECT
    day,
    toFixedString(concat(substring(origin.1, 9, 8), origin.2), 16) AS message,
    origin.1 AS origin_trace,
    origin.2 AS origin_span,
    toFixedString('', 16) AS known_as,
    now64(6, 'UTC') AS seen_at
FROM
(
    SELECT day, arrayJoin(if(empty(messages), [(origin_trace, origin_span)], arrayMap(l -> (l.trace_id, l.span_id), links))) AS origin
    FROM incoming
    WHERE origin_span != toFixedString('', 8)
);
