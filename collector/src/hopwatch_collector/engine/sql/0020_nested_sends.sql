-- Sends that other instrumentations tell within another span: frameworks have a span of their own around what the client's
-- instrumentation tells, so that one message has several. Which of these are about one message the engine's upkeep finds out.
CREATE TABLE IF NOT EXISTS nested_sends
(
    day Date CODEC(ZSTD(1)),
    told_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),  -- by the engine's clock
    key FixedString(16) CODEC(ZSTD(1)),                     -- half of the trace id, the span id
    message FixedString(16) CODEC(ZSTD(1)),                 -- the same, or the id that the message has
    within FixedString(16) CODEC(ZSTD(1)),                  -- the key of the span around it
    system LowCardinality(String) CODEC(ZSTD(1)),
    destination LowCardinality(String) CODEC(ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    tenant LowCardinality(String) DEFAULT ''
)
ENGINE = {{MergeTree}}
PARTITION BY day
ORDER BY told_at
SETTINGS {{settings}};

ALTER TABLE rare_incoming
    ADD COLUMN IF NOT EXISTS within FixedString(8);         -- the span around a send that another instrumentation tells, zeros: none

CREATE MATERIALIZED VIEW IF NOT EXISTS nested_sends_from_rare TO nested_sends AS
SELECT
    toDate(now64(6, 'UTC')) AS day,
    now64(6, 'UTC') AS told_at,
    toFixedString(concat(substring(trace_id, 9, 8), span_id), 16) AS key,
    message,
    toFixedString(concat(substring(trace_id, 9, 8), r.within), 16) AS within,
    system,
    destination,
    service
FROM rare_incoming AS r
WHERE r.within != toFixedString('', 8);

-- The same as before, with those sends.
ALTER TABLE rare_from_incoming MODIFY QUERY
SELECT
    day, started_at, trace_id, span_id, flow, service, resource, role, system, broker, destination, receiver, message, messages,
    origin_trace, origin_span, partition, offset, aliases, dead_receiver, dead_reason, pattern, durable, links,
    if(role = 'send' AND kind = 'producer' AND NOT startsWith(scope, 'hopwatch.'), parent_id, toFixedString('', 8)) AS within
FROM incoming
WHERE role IN ('commit', 'subscribe', 'unsubscribe') OR dead_receiver != '' OR origin_span != toFixedString('', 8)
    OR notEmpty(aliases) OR notEmpty(links) OR within != toFixedString('', 8)
