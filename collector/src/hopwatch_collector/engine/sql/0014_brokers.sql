-- Which broker each side means, as it was told: the cluster's id, the cluster's name and the virtual host, the server's id. Names of
-- topics, queues and groups are only good within one broker. And every row has a tenant, empty until there are any.

-- Under what a broker is known: by what clients and witnesses tell (`told`), and what it is called where it is watched (`name`).
-- Of one that only services told of, the name is empty.
CREATE TABLE IF NOT EXISTS brokers
(
    tenant LowCardinality(String) DEFAULT '',
    system LowCardinality(String),
    told String,
    name String,
    seen_at SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT now64(3, 'UTC'), -- when the engine first learnt of it, and
    last_at SimpleAggregateFunction(max, DateTime64(3, 'UTC')) DEFAULT now64(3, 'UTC')  -- when it last did: of several names the newest counts
)
ENGINE = {{AggregatingMergeTree}}
ORDER BY (tenant, system, told, name)
SETTINGS {{settings}};

ALTER TABLE durable_subscriptions
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String),
    MODIFY ORDER BY (tenant, system, pattern, receiver, resource, broker);

ALTER TABLE brief_subscriptions
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String),
    MODIFY ORDER BY (span_of_time, tenant, system, pattern, receiver, resource, broker);

ALTER TABLE commits
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String),
    ADD COLUMN IF NOT EXISTS tenant LowCardinality(String),
    MODIFY ORDER BY (destination, receiver, partition, offset, broker, tenant);

ALTER TABLE commit_heads
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String),
    MODIFY ORDER BY (tenant, destination, receiver, partition, broker);

ALTER TABLE moves
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String),
    ADD COLUMN IF NOT EXISTS tenant LowCardinality(String),
    MODIFY ORDER BY (receiver, destination, partition, at, offset, until, broker, tenant);

ALTER TABLE sightings
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String),
    ADD COLUMN IF NOT EXISTS tenant LowCardinality(String),
    MODIFY ORDER BY (system, receiver, partition, offset, kind, broker, tenant);

ALTER TABLE ledger
    ADD COLUMN IF NOT EXISTS broker SimpleAggregateFunction(max, LowCardinality(String)) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '' CODEC(ZSTD(1));

ALTER TABLE told ADD COLUMN IF NOT EXISTS broker LowCardinality(String) DEFAULT '' CODEC(ZSTD(1));

-- The last look before this one: until then all was as the row before it says. 1970: not told.
ALTER TABLE receiver_states ADD COLUMN IF NOT EXISTS unchanged_until DateTime64(6, 'UTC') DEFAULT toDateTime64(0, 6, 'UTC') CODEC(Delta(8), ZSTD(1));

ALTER TABLE spans ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE told ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE watches ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE resources ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE losses ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE aliases ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE strangers ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE incoming
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String) AFTER system,
    ADD COLUMN IF NOT EXISTS member String,                -- subscriptions: as whom the broker lists whoever holds them
    ADD COLUMN IF NOT EXISTS tells LowCardinality(String); -- subscriptions: `whole`, `parent` or `sampled`, what the process tells of its messages

-- The same as before, with the broker. (Views of what is rare in a batch, and what they are fed from, are stated in 0017.)
ALTER TABLE ledger_from_incoming MODIFY QUERY
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
    broker,
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
    CAST(keys, 'Array(Tuple(String, String))') AS keys,
    resource,
    now64(3, 'UTC') AS seen_at
FROM incoming
WHERE message != toFixedString('', 16);

ALTER TABLE commit_heads_from_commits MODIFY QUERY
SELECT
    day, broker, destination, receiver, partition,
    argMaxState(CAST((offset, resource), 'Tuple(offset Int64, resource UInt64)'), c.last_at) AS latest,
    max(c.last_at) AS last_at,
    now64(3, 'UTC') AS seen_at
FROM commits AS c
GROUP BY day, broker, destination, receiver, partition;

-- From when until when processes told what they do as a receiver: silence is evidence only where somebody would have spoken.
CREATE TABLE IF NOT EXISTS coverage
(
    tenant LowCardinality(String) DEFAULT '',
    day Date,
    system LowCardinality(String),
    receiver LowCardinality(String),
    minute DateTime('UTC'),
    broker LowCardinality(String),
    resource UInt64,
    member String,                                                                     -- as whom the broker lists it; '': not told
    reads SimpleAggregateFunction(max, UInt8),                                         -- 1: it takes messages; a queue may be declared by others
    part SimpleAggregateFunction(max, UInt8),                                          -- 1: it tells only what a sampler picks
    first_at SimpleAggregateFunction(min, DateTime64(6, 'UTC')),
    last_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    left_at SimpleAggregateFunction(max, DateTime64(6, 'UTC'))                         -- when it said that it is no longer there; 1970: never
)
ENGINE = {{AggregatingMergeTree}}
PARTITION BY day
ORDER BY (tenant, system, receiver, minute, broker, resource, member)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS coverage_from_incoming TO coverage AS
SELECT
    day, system, receiver, toStartOfMinute(toDateTime(i.started_at, 'UTC')) AS minute, broker, resource, member,
    max(role IN ('receive', 'settle', 'open', 'commit') OR system != 'rabbitmq') AS reads,
    max(tells = 'sampled') AS part,
    min(toDateTime64(i.started_at, 6, 'UTC')) AS first_at,
    max(toDateTime64(i.started_at, 6, 'UTC')) AS last_at,
    max(if(role = 'unsubscribe', toDateTime64(i.started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC'))) AS left_at
FROM incoming AS i
WHERE role IN ('receive', 'settle', 'open', 'commit', 'subscribe', 'unsubscribe') AND receiver != '' AND system IN ('kafka', 'nats', 'rabbitmq')
GROUP BY day, system, receiver, minute, broker, resource, member;

-- Of what an earlier version stored: who received what, and when.
INSERT INTO coverage (day, system, receiver, minute, broker, resource, member, reads, part, first_at, last_at, left_at)
SELECT
    day, system, receiver, toStartOfMinute(toDateTime(l.started_at, 'UTC')) AS minute, '', resource, '', 1, 0,
    min(l.started_at), max(l.started_at), toDateTime64(0, 6, 'UTC')
FROM ledger AS l
WHERE receiver != '' AND attempt > 0 AND system IN ('kafka', 'nats', 'rabbitmq')
GROUP BY day, system, receiver, minute, resource;

DROP VIEW IF EXISTS telling_from_incoming;

DROP TABLE IF EXISTS telling;

-- Whose losses they are, as facts say who told them.
ALTER TABLE losses ADD COLUMN IF NOT EXISTS resource SimpleAggregateFunction(max, UInt64);

CREATE MATERIALIZED VIEW IF NOT EXISTS brokers_from_incoming TO brokers AS
SELECT system, broker AS told, '' AS name, now64(3, 'UTC') AS seen_at, now64(3, 'UTC') AS last_at
FROM incoming
WHERE broker != ''
GROUP BY system, broker;

CREATE OR REPLACE VIEW subscriptions AS
SELECT tenant, day, system, broker, pattern, receiver, 1 AS durable, resource, service, first_at, last_at, unsubscribed_at, seen_at FROM durable_subscriptions
UNION ALL
SELECT tenant, day, system, broker, pattern, receiver, 0 AS durable, resource, service, first_at, last_at, unsubscribed_at, seen_at FROM brief_subscriptions
