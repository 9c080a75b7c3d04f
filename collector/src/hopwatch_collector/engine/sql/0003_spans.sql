-- Spans as they are shown, ids as bytes, resource attributes once per resource, links in a table of their own.

CREATE TABLE IF NOT EXISTS spans
(
    day Date CODEC(ZSTD(1)),
    started_at DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    duration UInt64 CODEC(ZSTD(1)),
    trace_id FixedString(16) CODEC(ZSTD(1)),
    span_id FixedString(8) CODEC(NONE),                     -- random: nothing to compress
    parent_id FixedString(8) CODEC(ZSTD(1)),
    flow FixedString(16) CODEC(ZSTD(1)),                    -- zeros: the trace id
    name LowCardinality(String) CODEC(ZSTD(1)),
    kind Enum8('unspecified' = 0, 'internal' = 1, 'server' = 2, 'client' = 3, 'producer' = 4, 'consumer' = 5) CODEC(ZSTD(1)),
    status Enum8('unset' = 0, 'ok' = 1, 'error' = 2) CODEC(ZSTD(1)),
    status_message String CODEC(ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    resource UInt64 CODEC(ZSTD(1)),
    scope LowCardinality(String) CODEC(ZSTD(1)),
    role Enum8('none' = 0, 'send' = 1, 'receive' = 2, 'settle' = 3, 'commit' = 4, 'call' = 5, 'serve' = 6, 'open' = 7,
               'subscribe' = 8, 'unsubscribe' = 9) CODEC(ZSTD(1)),
    system LowCardinality(String) CODEC(ZSTD(1)),
    operation LowCardinality(String) CODEC(ZSTD(1)),
    destination LowCardinality(String) CODEC(ZSTD(1)),
    receiver LowCardinality(String) CODEC(ZSTD(1)),
    message FixedString(16) CODEC(ZSTD(1)),
    own_id UInt8 CODEC(ZSTD(1)),
    attempt UInt16 CODEC(ZSTD(1)),
    settle LowCardinality(String) CODEC(ZSTD(1)),
    reason String CODEC(ZSTD(1)),
    keys Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attrs Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    events Array(Tuple(at DateTime64(9, 'UTC'), name LowCardinality(String), attrs String)) CODEC(ZSTD(1)),

    INDEX by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_flow flow TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_message message TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_key mapValues(keys) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_attr mapValues(attrs) TYPE bloom_filter(0.02) GRANULARITY 4
)
ENGINE = {{MergeTree}}
PARTITION BY day
ORDER BY started_at
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS spans_from_incoming TO spans AS
SELECT
    day, started_at, duration, trace_id, span_id, parent_id, flow, name, kind, status, status_message, service, resource,
    scope, role, system, operation, destination, receiver, message, own_id, attempt, settle, reason, keys, attrs, events
FROM incoming;

-- Links between spans, and so between flows.
CREATE TABLE IF NOT EXISTS links
(
    day Date CODEC(ZSTD(1)),
    trace_id FixedString(16) CODEC(ZSTD(1)),
    span_id FixedString(8) CODEC(NONE),
    flow FixedString(16) CODEC(ZSTD(1)),                    -- of the linking span; zeros: its trace id
    to_trace FixedString(16) CODEC(ZSTD(1)),
    to_span FixedString(8) CODEC(NONE),
    attrs String CODEC(ZSTD(1)),

    INDEX by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_flow flow TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {{MergeTree}}
PARTITION BY day
ORDER BY (to_trace, to_span)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS links_from_incoming TO links AS
SELECT day, trace_id, span_id, flow, link.trace_id AS to_trace, link.span_id AS to_span, link.attrs AS attrs
FROM (SELECT day, trace_id, span_id, flow, arrayJoin(links) AS link FROM incoming);

-- What produced the spans: one row per distinct set of resource attributes and day.
CREATE TABLE IF NOT EXISTS resources
(
    day Date,
    resource UInt64,
    service LowCardinality(String),
    instance String,
    attrs Map(LowCardinality(String), String)
)
ENGINE = {{ReplacingMergeTree}}
PARTITION BY day
ORDER BY resource
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS resources_from_otlp TO resources AS
SELECT
    today() AS day,
    sipHash64(toString(resource)) AS resource,
    leftUTF8(attrs['service.name'], 256) AS service,
    leftUTF8(multiIf(
        attrs['service.instance.id'] != '', attrs['service.instance.id'],
        attrs['host.name'] != '', concat(attrs['host.name'], ':', attrs['process.pid']),
        ''), 256) AS instance,
    CAST((resource.attributes.key, arrayMap({{as_text}}, resource.attributes.value)), 'Map(LowCardinality(String), String)') AS attrs
FROM (SELECT DISTINCT arrayJoin(resource_spans.resource) AS resource FROM otlp);
