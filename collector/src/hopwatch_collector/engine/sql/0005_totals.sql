-- Counters for /metrics. They count spans taken; a span that its sender repeats in another request counts again.

CREATE TABLE IF NOT EXISTS span_totals
(
    day Date,
    service LowCardinality(String),
    name LowCardinality(String),
    kind LowCardinality(String),
    status LowCardinality(String),
    bucket UInt8,                       -- which of the bounds in span_totals.sql the duration is within
    calls UInt64,
    ns UInt64
)
ENGINE = {{SummingMergeTree}}
PARTITION BY day
ORDER BY (service, name, kind, status, bucket)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS span_totals_from_incoming TO span_totals AS
SELECT
    day, service, name, toString(kind) AS kind, toString(status) AS status,
    -- 2, 4, 8 … ms up to 16 s, and what is longer.
    toUInt8(least(14, greatest(0, ceil(log2(duration / 1000000))-1))) AS bucket,
    count() AS calls,
    sum(duration) AS ns
FROM incoming
WHERE role NOT IN ('subscribe', 'unsubscribe', 'open')
GROUP BY day, service, name, kind, status, bucket;

-- Who reached whom, per minute; written by `maintain`, again and again while a minute is recent.
CREATE TABLE IF NOT EXISTS edges
(
    day Date,
    minute DateTime('UTC'),
    client LowCardinality(String),
    server LowCardinality(String),
    system LowCardinality(String),
    destination LowCardinality(String),
    receiver LowCardinality(String),
    requests UInt64,
    failed UInt64,
    written_at DateTime64(3, 'UTC')
)
ENGINE = {{ReplacingMergeTree written_at}}
PARTITION BY day
ORDER BY (minute, client, server, system, destination, receiver)
SETTINGS {{settings}};
