-- What the judge reads and writes. Facts and broker states are laid out by when they matter, so that reading what changed costs by
-- what changed; deliveries are kept as judged, one current row per message and receiver.
-- `tenant` is empty until there are tenants; `broker` and `incarnation` are empty where a side does not say which broker it means.

-- What to judge again: every message that something was learnt of, in the order in which it was learnt. Kept for two days.
CREATE TABLE IF NOT EXISTS touched
(
    day Date CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),      -- by the engine's clock
    message FixedString(16) CODEC(ZSTD(1))
)
ENGINE = {{MergeTree}}
PARTITION BY day
ORDER BY at
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS touched_by_facts TO touched AS
SELECT DISTINCT toDate(now64(3, 'UTC')) AS day, now64(3, 'UTC') AS at, message
FROM ledger;

CREATE MATERIALIZED VIEW IF NOT EXISTS touched_by_message_events TO touched AS
SELECT DISTINCT toDate(now64(3, 'UTC')) AS day, now64(3, 'UTC') AS at, message
FROM told
WHERE message != toFixedString('', 16);

-- Subscriptions that last while nobody is connected: one row per day and subscription.
CREATE TABLE IF NOT EXISTS durable_subscriptions
(
    tenant LowCardinality(String) DEFAULT '',
    day Date,
    system LowCardinality(String),
    pattern LowCardinality(String),
    receiver LowCardinality(String),
    resource UInt64,                                                                   -- the subscribing process, or the broker that says so
    service SimpleAggregateFunction(max, LowCardinality(String)),
    first_at SimpleAggregateFunction(min, DateTime64(6, 'UTC')),                       -- 2299: not subscribed
    last_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    unsubscribed_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')),                -- 1970: never
    learnt_at SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT now64(3, 'UTC'), -- when the engine first learnt of it, and
    seen_at SimpleAggregateFunction(max, DateTime64(3, 'UTC')) DEFAULT now64(3, 'UTC')    -- when it last did
)
ENGINE = {{AggregatingMergeTree}}
PARTITION BY day
ORDER BY (tenant, system, pattern, receiver, resource)
SETTINGS {{settings}};

-- Subscriptions that last while somebody is connected: one row per 15 s in which that was said, in the order of time, so that
-- those around a moment are read without all the others.
CREATE TABLE IF NOT EXISTS brief_subscriptions
(
    tenant LowCardinality(String) DEFAULT '',
    day Date,
    span_of_time DateTime('UTC'),                                                      -- start of the 15 s
    system LowCardinality(String),
    pattern LowCardinality(String),
    receiver LowCardinality(String),
    resource UInt64,
    service SimpleAggregateFunction(max, LowCardinality(String)),
    first_at SimpleAggregateFunction(min, DateTime64(6, 'UTC')),
    last_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    unsubscribed_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    learnt_at SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT now64(3, 'UTC'),
    seen_at SimpleAggregateFunction(max, DateTime64(3, 'UTC')) DEFAULT now64(3, 'UTC')
)
ENGINE = {{AggregatingMergeTree}}
PARTITION BY day
ORDER BY (span_of_time, tenant, system, pattern, receiver, resource)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS durable_subscriptions_from_incoming TO durable_subscriptions AS
SELECT
    day, system, pattern, receiver, resource, service,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64('2299-01-01 00:00:00', 6, 'UTC')) AS first_at,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS last_at,
    if(role = 'unsubscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS unsubscribed_at,
    now64(3, 'UTC') AS learnt_at,
    now64(3, 'UTC') AS seen_at
FROM incoming
WHERE role IN ('subscribe', 'unsubscribe') AND pattern != '' AND receiver != '' AND durable;

CREATE MATERIALIZED VIEW IF NOT EXISTS brief_subscriptions_from_incoming TO brief_subscriptions AS
SELECT
    day, toStartOfInterval(toDateTime(started_at, 'UTC'), INTERVAL 15 SECOND) AS span_of_time, system, pattern, receiver, resource, service,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64('2299-01-01 00:00:00', 6, 'UTC')) AS first_at,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS last_at,
    if(role = 'unsubscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS unsubscribed_at,
    now64(3, 'UTC') AS learnt_at,
    now64(3, 'UTC') AS seen_at
FROM incoming
WHERE role IN ('subscribe', 'unsubscribe') AND pattern != '' AND receiver != '' AND NOT durable;

-- Both, for questions about single receivers.
CREATE VIEW IF NOT EXISTS subscriptions AS
SELECT tenant, day, system, pattern, receiver, 1 AS durable, resource, service, first_at, last_at, unsubscribed_at, seen_at FROM durable_subscriptions
UNION ALL
SELECT tenant, day, system, pattern, receiver, 0 AS durable, resource, service, first_at, last_at, unsubscribed_at, seen_at FROM brief_subscriptions;

-- The latest commit of each group and partition, so that the log of commits need not be read for it.
CREATE TABLE IF NOT EXISTS commit_heads
(
    tenant LowCardinality(String) DEFAULT '',
    day Date,
    destination LowCardinality(String),
    receiver LowCardinality(String),
    partition LowCardinality(String),
    latest AggregateFunction(argMax, Tuple(offset Int64, resource UInt64), DateTime64(6, 'UTC')),
    last_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    seen_at SimpleAggregateFunction(max, DateTime64(3, 'UTC')) DEFAULT now64(3, 'UTC')
)
ENGINE = {{AggregatingMergeTree}}
PARTITION BY day
ORDER BY (tenant, destination, receiver, partition)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS commit_heads_from_commits TO commit_heads AS
SELECT
    day, destination, receiver, partition,
    argMaxState(CAST((offset, resource), 'Tuple(offset Int64, resource UInt64)'), c.last_at) AS latest,
    max(c.last_at) AS last_at,
    now64(3, 'UTC') AS seen_at
FROM commits AS c
GROUP BY day, destination, receiver, partition;

-- When the engine learnt of what brokers said of single messages, and of seeks.
ALTER TABLE sightings ADD COLUMN IF NOT EXISTS seen_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(ZSTD(1));

ALTER TABLE moves ADD COLUMN IF NOT EXISTS seen_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(ZSTD(1));

-- How receivers stood at their brokers whenever that changed, in the order of time.
CREATE TABLE IF NOT EXISTS receiver_states
(
    tenant LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    day Date CODEC(ZSTD(1)),
    system LowCardinality(String) CODEC(ZSTD(1)),
    broker LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    incarnation String DEFAULT '' CODEC(ZSTD(1)),
    destination LowCardinality(String) CODEC(ZSTD(1)),     -- Kafka: the topic; '' where receiver and partition say it all
    receiver LowCardinality(String) CODEC(ZSTD(1)),        -- consumer group, queue, stream/consumer
    partition LowCardinality(String) CODEC(ZSTD(1)),       -- Kafka partition, JetStream stream; '' for a queue
    at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    first Int64 CODEC(Delta(8), ZSTD(1)),                  -- of a log: the oldest offset still held; of a queue: since when it counts
    end Int64 CODEC(Delta(8), ZSTD(1)),                    -- the next offset to be written
    next Int64 CODEC(Delta(8), ZSTD(1)),                   -- the next offset to be handed to this receiver
    done Int64 CODEC(Delta(8), ZSTD(1)),                   -- all offsets before this one are settled
    waiting Int64 CODEC(ZSTD(1)),
    in_hand Int64 CODEC(ZSTD(1)),                          -- handed out, not settled
    consumers Int64 CODEC(ZSTD(1)),
    oldest_at DateTime64(6, 'UTC') CODEC(ZSTD(1)),         -- when the oldest that waits was sent; 1970: not told
    published Int64 CODEC(Delta(8), ZSTD(1)),              -- counters of a queue
    handed Int64 CODEC(Delta(8), ZSTD(1)),
    acked Int64 CODEC(Delta(8), ZSTD(1)),
    ttl_ms Int64 CODEC(ZSTD(1)),
    max_length Int64 CODEC(ZSTD(1)),
    dead_letters UInt8 CODEC(ZSTD(1)),
    state LowCardinality(String) CODEC(ZSTD(1)),
    uncounted UInt8 CODEC(ZSTD(1)),
    heard_from Int64 DEFAULT -1 CODEC(Delta(8), ZSTD(1)),
    seen_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1))
)
ENGINE = {{MergeTree}}
PARTITION BY day
ORDER BY at
SETTINGS {{settings}};

-- Deliveries as judged. A change is told by taking the former row back (sign -1) and giving the new one (sign 1, next version), so
-- that sums over rows stay exact whether parts have been merged or not; what both cancel, merges remove.
CREATE TABLE IF NOT EXISTS deliveries
(
    tenant LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    day Date CODEC(ZSTD(1)),                               -- of the message's first fact, as known when it was first judged
    message FixedString(16) CODEC(ZSTD(1)),
    receiver LowCardinality(String) CODEC(ZSTD(1)),
    sign Int8 CODEC(ZSTD(1)),
    version UInt32 CODEC(ZSTD(1)),
    fingerprint UInt64 CODEC(NONE),                        -- of all that follows: whether a delivery changed is seen by it
    minute DateTime('UTC') CODEC(Delta(4), ZSTD(1)),       -- of first_at
    verdict LowCardinality(String) CODEC(ZSTD(1)),
    cause LowCardinality(String) CODEC(ZSTD(1)),
    detail String CODEC(ZSTD(1)),                          -- what the evidence adds to the cause, in words
    open UInt8 CODEC(ZSTD(1)),                             -- 1: may still change by time or by what its broker says
    since DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    due_at DateTime64(6, 'UTC') CODEC(ZSTD(1)),            -- when it turns overdue or stuck; 1970: not
    next_at DateTime64(6, 'UTC') CODEC(ZSTD(1)),           -- when time alone may change it; 2299: never
    witnesses UInt8 CODEC(ZSTD(1)),                        -- producer 1, consumer 2, broker 4
    system LowCardinality(String) CODEC(ZSTD(1)),
    broker LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    destination LowCardinality(String) CODEC(ZSTD(1)),
    producer LowCardinality(String) CODEC(ZSTD(1)),
    consumer LowCardinality(String) CODEC(ZSTD(1)),
    trace_id FixedString(16) CODEC(ZSTD(1)),               -- zeros: the flow's id
    flow FixedString(16) CODEC(ZSTD(1)),
    keys Array(Tuple(name String, value String)) CODEC(ZSTD(1)),
    partition LowCardinality(String) CODEC(ZSTD(1)),
    offset Int64 CODEC(Delta(8), ZSTD(1)),                 -- -1: none
    pending Int64 CODEC(ZSTD(1)),                          -- what the client last said still waited; -1: nothing said
    conversation String CODEC(ZSTD(1)),
    attempts UInt32 CODEC(ZSTD(1)),
    call UInt8 CODEC(ZSTD(1)),
    declared LowCardinality(String) CODEC(ZSTD(1)),
    outcome LowCardinality(String) CODEC(ZSTD(1)),
    publish_reason String CODEC(ZSTD(1)),
    sender_seen UInt8 CODEC(ZSTD(1)),
    failed UInt8 CODEC(ZSTD(1)),
    first_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    sent_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    received_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    settled_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    sender_off_us Int64 CODEC(ZSTD(1)),
    receiver_off_us Int64 CODEC(ZSTD(1)),
    backwards UInt8 CODEC(ZSTD(1)),                        -- 1: received before sent, as clocks have it
    received_in Int16 CODEC(ZSTD(1)),                      -- bucket of sent to received (judge/histogram.py); -1: not known
    settled_in Int16 CODEC(ZSTD(1)),                       -- of sent to settled
    worked_for Int16 CODEC(ZSTD(1)),                       -- of received to settled

    INDEX by_flow flow TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_minute minute TYPE minmax GRANULARITY 1,

    -- What every count, rate and latency is read from. Part of each part, so that it says what the rows say at any moment.
    PROJECTION totals
    (
        SELECT
            tenant, minute, system, broker, destination, receiver, producer, consumer, verdict, cause, call,
            sum(sign) AS deliveries,
            sum(sign * failed) AS errors,
            sum(sign * backwards) AS backwards_total,
            sum(toInt64(sign) * greatest(toInt64(attempts) - 1, 0)) AS redeliveries,
            max(received_at) AS last_received_at,
            argMaxIf(pending, received_at, pending >= 0 AND attempts > 0) AS last_pending,
            maxIf(received_at, pending >= 0 AND attempts > 0) AS pending_at,
            sumMap([received_in], [toInt64(sign)]) AS wait_histogram,
            sumMap([settled_in], [toInt64(sign)]) AS end_to_end_histogram,
            sumMap([worked_for], [toInt64(sign)]) AS processing_histogram
        GROUP BY tenant, minute, system, broker, destination, receiver, producer, consumer, verdict, cause, call
    )
)
ENGINE = {{VersionedCollapsingMergeTree}}
PARTITION BY day
ORDER BY (tenant, message, receiver)
SETTINGS {{settings of the judge}}, deduplicate_merge_projection_mode = 'rebuild';

-- What is open or undelivered, whenever it was sent: a list to work through, by receiver and age. As above, rows are taken back.
CREATE TABLE IF NOT EXISTS attention
(
    tenant LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    day Date CODEC(ZSTD(1)),
    system LowCardinality(String) CODEC(ZSTD(1)),
    broker LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    destination LowCardinality(String) CODEC(ZSTD(1)),
    receiver LowCardinality(String) CODEC(ZSTD(1)),
    minute DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    message FixedString(16) CODEC(ZSTD(1)),
    sign Int8 CODEC(ZSTD(1)),
    version UInt32 CODEC(ZSTD(1)),
    verdict LowCardinality(String) CODEC(ZSTD(1)),
    cause LowCardinality(String) CODEC(ZSTD(1)),
    open UInt8 CODEC(ZSTD(1)),
    first_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    since DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    next_at DateTime64(6, 'UTC') CODEC(ZSTD(1)),           -- as in `deliveries`
    partition LowCardinality(String) CODEC(ZSTD(1)),
    offset Int64 CODEC(Delta(8), ZSTD(1)),
    producer LowCardinality(String) CODEC(ZSTD(1)),
    consumer LowCardinality(String) CODEC(ZSTD(1)),
    flow FixedString(16) CODEC(ZSTD(1)),

    INDEX by_next next_at TYPE minmax GRANULARITY 1,

    PROJECTION counts
    (
        SELECT tenant, system, broker, destination, receiver, minute, verdict, cause, sum(sign) AS deliveries
        GROUP BY tenant, system, broker, destination, receiver, minute, verdict, cause
    )
)
ENGINE = {{VersionedCollapsingMergeTree}}
PARTITION BY day
ORDER BY (tenant, system, broker, destination, receiver, minute, message)
SETTINGS {{settings of the judge}}, deduplicate_merge_projection_mode = 'rebuild';

-- How far the judge has come: the row written last counts. What it was about to write is in it, so that after a crash in the midst
-- of writing both tables can be made to agree again.
CREATE TABLE IF NOT EXISTS judge_progress
(
    judge LowCardinality(String),
    upto DateTime64(3, 'UTC'),                              -- all that was touched before this has been judged
    messages Array(FixedString(16)),                        -- about to be written
    settings String,                                        -- by which it judges: with others, all that is open is judged again
    number UInt64
)
ENGINE = {{ReplacingMergeTree number}}
ORDER BY judge
SETTINGS {{settings of the judge}};

-- Of what an earlier version stored, the judge makes deliveries like of anything that comes in.
INSERT INTO durable_subscriptions (day, system, pattern, receiver, resource, service, first_at, last_at, unsubscribed_at)
SELECT day, system, pattern, receiver, resource, service, first_at, last_at, unsubscribed_at FROM receivers WHERE durable;

INSERT INTO brief_subscriptions (day, span_of_time, system, pattern, receiver, resource, service, first_at, last_at, unsubscribed_at)
SELECT day, span_of_time, system, pattern, receiver, resource, service, first_at, last_at, unsubscribed_at FROM receivers WHERE NOT durable;

INSERT INTO commit_heads (day, destination, receiver, partition, latest, last_at)
SELECT day, destination, receiver, partition, argMaxState(CAST((offset, resource), 'Tuple(offset Int64, resource UInt64)'), c.last_at), max(c.last_at)
FROM commits AS c
GROUP BY day, destination, receiver, partition;

INSERT INTO receiver_states
    (day, system, destination, receiver, partition, at, first, end, next, done, waiting, in_hand, consumers, oldest_at, published, handed,
    acked, ttl_ms, max_length, dead_letters, state, uncounted, heard_from)
SELECT
    day, system, destination, receiver, partition, at, first, end, next, done, waiting, in_hand, consumers, oldest_at, published, handed,
    acked, ttl_ms, max_length, dead_letters, state, uncounted, heard_from
FROM positions;

INSERT INTO touched SELECT toDate(at) AS day, toDateTime64(least(min(l.started_at), now64(6, 'UTC')), 3, 'UTC') AS at, message FROM ledger AS l GROUP BY message
