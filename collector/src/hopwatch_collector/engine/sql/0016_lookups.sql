-- Where to look for what is asked by a name: in which minutes the spans lie that bear it. `spans` is in the order of time, so that
-- only those minutes of it are read, and no index over all of it is needed. Names are kept as 32 bits of a hash: two that share
-- one cost a few rows read in vain, for what is read is compared with what was asked.
-- Names are: the trace; the flow, where it is another; the values of business keys; of what sent a message with an id of its own,
-- the key under which a receiver that knows only the sending span tells of it (see `strangers`).
CREATE TABLE IF NOT EXISTS span_minutes
(
    day Date CODEC(ZSTD(1)),
    hash UInt32 CODEC(Delta(4), ZSTD(1)),
    minute UInt32 CODEC(T64, ZSTD(1)),                      -- since 1970, of started_at
    tenant LowCardinality(String) DEFAULT ''
)
ENGINE = {{ReplacingMergeTree}}
PARTITION BY day
ORDER BY (hash, minute, tenant)
-- Small steps: of a name one row is wanted, not thousands.
SETTINGS {{settings}}, index_granularity = 1024, min_compress_block_size = 8192, max_compress_block_size = 16384;

CREATE MATERIALIZED VIEW IF NOT EXISTS span_minutes_from_incoming TO span_minutes AS
SELECT DISTINCT
    day,
    arrayJoin(arrayConcat(
        [xxHash32(trace_id)],
        if(flow = toFixedString('', 16), [], [xxHash32(flow)]),
        if(own_id AND role IN ('send', 'call'), [xxHash32(concat(substring(trace_id, 9, 8), span_id))], []),
        arrayMap(v -> xxHash32(v), mapValues(keys)))) AS hash,
    toUInt32(intDiv(toUnixTimestamp64Nano(started_at), 60000000000)) AS minute
FROM incoming
WHERE role NOT IN ('commit', 'subscribe', 'unsubscribe');

INSERT INTO span_minutes (day, hash, minute)
SELECT
    day,
    arrayJoin(arrayConcat(
        [xxHash32(trace_id)],
        if(flow = toFixedString('', 16), [], [xxHash32(flow)]),
        if(own_id AND role IN ('send', 'call'), [xxHash32(concat(substring(trace_id, 9, 8), span_id))], []),
        arrayMap(v -> xxHash32(v), mapValues(keys)))) AS hash,
    toUInt32(intDiv(toUnixTimestamp64Nano(started_at), 60000000000)) AS minute
FROM spans
WHERE role NOT IN ('commit', 'subscribe', 'unsubscribe')
SETTINGS max_partitions_per_insert_block = 0;

ALTER TABLE spans
    DROP INDEX IF EXISTS by_trace, DROP INDEX IF EXISTS by_flow, DROP INDEX IF EXISTS by_message, DROP INDEX IF EXISTS by_key,
    DROP INDEX IF EXISTS by_attr;

-- A flow's deliveries are those of the messages its spans name.
ALTER TABLE deliveries DROP INDEX IF EXISTS by_flow;

-- Facts of receivers that knew only the span that sent the message, in the order in which they were told: their senders are looked
-- for by the engine's upkeep. `strangers` tells from now on only whose senders were found.
CREATE TABLE IF NOT EXISTS senders_wanted
(
    day Date CODEC(ZSTD(1)),
    seen_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),  -- by the engine's clock
    message FixedString(16) CODEC(ZSTD(1)),                 -- the key the facts are told under: half of the sender's trace id, its span id
    tenant LowCardinality(String) DEFAULT ''
)
ENGINE = {{MergeTree}}
PARTITION BY day
ORDER BY seen_at
SETTINGS {{settings}};

DROP VIEW IF EXISTS strangers_from_incoming;

CREATE MATERIALIZED VIEW IF NOT EXISTS senders_wanted_from_incoming TO senders_wanted AS
SELECT DISTINCT
    toDate(now64(6, 'UTC')) AS day, now64(6, 'UTC') AS seen_at, toFixedString(concat(substring(origin.1, 9, 8), origin.2), 16) AS message
FROM
(
    SELECT arrayJoin(if(empty(messages), [(origin_trace, origin_span)], arrayMap(l -> (l.trace_id, l.span_id), links))) AS origin
    FROM incoming
    WHERE origin_span != toFixedString('', 8)
);

INSERT INTO senders_wanted (day, seen_at, message)
SELECT toDate(s.seen_at), s.seen_at, message
FROM strangers AS s
WHERE known_as = toFixedString('', 16) AND s.seen_at > now64(6, 'UTC') - INTERVAL 3 DAY AND day >= today() - 62;

-- Other names of a message are asked for by the message too.
ALTER TABLE aliases MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';

ALTER TABLE aliases ADD PROJECTION IF NOT EXISTS by_message (SELECT alias, message ORDER BY message);

ALTER TABLE aliases MATERIALIZE PROJECTION by_message;

-- And links by the trace they are from.
ALTER TABLE links ADD PROJECTION IF NOT EXISTS by_trace (SELECT trace_id, span_id, flow, to_trace, to_span ORDER BY trace_id);

ALTER TABLE links MATERIALIZE PROJECTION by_trace;

ALTER TABLE links DROP INDEX IF EXISTS by_flow, DROP INDEX IF EXISTS by_trace;
