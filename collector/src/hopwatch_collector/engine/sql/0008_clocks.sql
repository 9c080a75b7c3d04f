-- Clocks of hosts: whose clock a fact was told by, when it came in by ours, and what hops between two hosts seemed to take.

ALTER TABLE ledger
    ADD COLUMN IF NOT EXISTS resource SimpleAggregateFunction(max, UInt64) CODEC(ZSTD(1)),                 -- who told it; 0: not said
    ADD COLUMN IF NOT EXISTS seen_at SimpleAggregateFunction(min, DateTime64(3, 'UTC')) CODEC(Delta(8), ZSTD(1)),  -- first, by the engine's clock; 1970: not said
    ADD INDEX IF NOT EXISTS by_arrival seen_at TYPE minmax GRANULARITY 1;

-- The same as before, with these two.
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

ALTER TABLE ledger_from_dead_letters MODIFY QUERY
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
    dead_reason AS reason,
    resource,
    now64(3, 'UTC') AS seen_at
FROM incoming
WHERE dead_receiver != '' AND message != toFixedString('', 16);

-- Of commits too, and of what receivers said they were entitled to when that came in.
ALTER TABLE commits ADD COLUMN IF NOT EXISTS resource SimpleAggregateFunction(max, UInt64) CODEC(ZSTD(1));

ALTER TABLE commits_from_incoming MODIFY QUERY
SELECT
    day, destination, receiver, partition, offset,
    toDateTime64(started_at, 6, 'UTC') AS at,
    toDateTime64(started_at, 6, 'UTC') AS last_at,
    resource
FROM incoming
WHERE role = 'commit' AND offset >= 0;

ALTER TABLE receivers ADD COLUMN IF NOT EXISTS seen_at SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT now64(3, 'UTC');

-- Whose clock a process reads. Of containers their node's, where it is known.
CREATE VIEW IF NOT EXISTS hosts AS
SELECT
    resource,
    any(leftUTF8(multiIf(
        attrs['k8s.node.name'] != '', attrs['k8s.node.name'],
        attrs['host.name'] != '', attrs['host.name'],
        attrs['host.id'] != '', attrs['host.id'],
        attrs['container.id'] != '', attrs['container.id'],
        instance != '', concat(service, '/', instance),
        service), 256)) AS host
FROM resources
GROUP BY resource;

-- What hops from one host to another seemed to take, per minute in which they came in; written by `maintain`.
-- A hop takes no less than nothing: received by one clock minus sent by the other is at least how far the one is ahead.
CREATE TABLE IF NOT EXISTS clock_pairs
(
    day Date,
    minute DateTime('UTC'),
    from_host LowCardinality(String),
    to_host LowCardinality(String),         -- spans come in at the collector: to its host
    hops UInt64,                            -- looked at, not all there were
    least Array(Int64),                     -- µs, the least three, least first
    written_at DateTime64(3, 'UTC')
)
ENGINE = {{ReplacingMergeTree written_at}}
PARTITION BY day
ORDER BY (minute, from_host, to_host)
SETTINGS {{settings}};
