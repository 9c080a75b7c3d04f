-- Calls that are reported while they are open. In `incoming` such a report is a half of a call like any other, but for its
-- kind, which is `internal`; its outcome is '' while there is no answer and `sent` once one has begun; a callee's settlement
-- is `none`. What its span says at its end outdoes all of it, whichever of the two comes first. Three views are stated anew.

ALTER TABLE incoming_from_recognised MODIFY QUERY
WITH
    toFixedString('', 16) AS no_id,
    toFixedString('', 8) AS no_span
SELECT
    -- A span dated absurdly must not open partitions without end: it is filed under today.
    if(toDate(started_at) BETWEEN today() - 60 AND today() + 1, toDate(started_at), today()) AS day,
    started_at,
    duration,
    trace_id,
    span_id,
    parent_id,
    if(length(a['hopwatch.flow.id']) = 32 AND flow_text != trace_id, flow_text, no_id) AS flow,
    name,
    kind,
    status,
    status_message,
    if(status != 'error', '', leftUTF8(multiIf(status_message != '', status_message, a['error.type'] != '', a['error.type'], 'error'), 256)) AS error,
    service,
    resource,
    scope,
    role,
    system,
    operation,
    leftUTF8(multiIf(
        a['hopwatch.destination'] != '', a['hopwatch.destination'],
        is_messaging AND system = 'rabbitmq' AND routing_key != '' AND position(named, routing_key) = 0,
            if(named = '', routing_key, concat(named, ':', routing_key)),
        is_messaging AND system = 'rabbitmq' AND length(amqp_parts) = 3, concat(amqp_parts[1], ':', amqp_parts[2]),
        is_messaging, named,
        role = 'none', '',
        rpc_method != '', rpc_method,
        role = 'call', concat(http_method, ' ', peer),
        trimRight(concat(http_method, ' ', a['http.route']))), 512) AS destination,
    leftUTF8(multiIf(
        a['hopwatch.receiver'] != '', a['hopwatch.receiver'],
        role = 'serve', service,
        role NOT IN ('receive', 'settle', 'commit', 'open'), '',
        a['messaging.consumer.group.name'] != '', a['messaging.consumer.group.name'],
        a['messaging.destination.subscription.name'] != '', a['messaging.destination.subscription.name'],
        system = 'rabbitmq' AND length(amqp_parts) = 3, amqp_parts[3],
        service), 512) AS receiver,
    if(role = 'call', leftUTF8(multiIf(
        a['server.address'] = '', domain(a['url.full']),
        a['server.port'] IN ('', '80', '443'), a['server.address'],
        concat(a['server.address'], ':', a['server.port'])), 256), '') AS peer,
    own_id,
    multiIf(
        role IN ('none', 'commit', 'subscribe', 'unsubscribe'), no_id,
        own_id, travelled,
        role IN ('send', 'call'), toFixedString(concat(substring(trace_id, 9, 8), span_id), 16),
        origin_span != no_span, toFixedString(concat(substring(origin_trace, 9, 8), origin_span), 16),
        role IN ('receive', 'serve'), toFixedString(concat(substring(trace_id, 9, 8), span_id), 16),
        no_id) AS message,
    if(NOT own_id AND role = 'receive' AND length(links) > 1,
        arrayMap(l -> toFixedString(concat(substring(l.trace_id, 9, 8), l.span_id), 16), links), []) AS messages,
    multiIf(
        own_id OR role NOT IN ('receive', 'serve', 'open', 'settle'), no_id,
        notEmpty(links), links[1].trace_id,
        parent_is_sender, trace_id,
        no_id) AS origin_trace,
    multiIf(
        own_id OR role NOT IN ('receive', 'serve', 'open', 'settle'), no_span,
        notEmpty(links), links[1].span_id,
        parent_is_sender, parent_id,
        no_span) AS origin_span,
    if(role IN ('receive', 'serve', 'settle', 'open'), greatest(1, toUInt16OrZero(a['hopwatch.attempt'])), 0) AS attempt,
    multiIf(
        half != '', if(a['hopwatch.call.streaming'] = 'true', 'sent', ''),
        a['hopwatch.publish.outcome'] != '', a['hopwatch.publish.outcome'],
        role = 'send', if(status = 'error', 'refused', 'sent'),
        role != 'call', '',
        -- A call that was answered, be it with an error, was taken.
        status != 'error' OR (rpc_method = '' AND answer != ''), 'confirmed',
        rpc_method != '' AND answer NOT IN ('', '1', '4', '14', 'CANCELLED', 'DEADLINE_EXCEEDED', 'UNAVAILABLE'), 'confirmed',
        answer IN ('14', 'UNAVAILABLE') OR match(a['error.type'], '(?i)connect(ion)?_?(error|refused|reset)|name.?resolution|gaierror'), 'returned',
        'unconfirmed') AS outcome,
    multiIf(
        half = 'serve', 'none',
        a['hopwatch.settle.outcome'] != '', a['hopwatch.settle.outcome'],
        role = 'serve', 'auto',
        '') AS settle,
    leftUTF8(a['hopwatch.reason'], 256) AS reason,
    leftUTF8(if(a['hopwatch.stream'] != '', a['hopwatch.stream'], a['messaging.destination.partition.id']), 256) AS partition,
    multiIf(
        a['hopwatch.sequence'] != '', ifNull(toInt64OrNull(a['hopwatch.sequence']), -1),
        a['messaging.kafka.offset'] != '', ifNull(toInt64OrNull(a['messaging.kafka.offset']), -1),
        -1) AS offset,
    ifNull(toInt64OrNull(a['hopwatch.pending']), -1) AS pending,
    leftUTF8(a['messaging.message.conversation_id'], 256) AS conversation,
    arrayFilter(alias -> alias != '' AND lower(alias) != travelled_text AND NOT match(alias, '^[0-9]{1,6}$'),
        arrayMap(alias -> leftUTF8(alias, 256), arrayDistinct(arrayConcat(
            if(a['hopwatch.alias'] = '', [], if(startsWith(a['hopwatch.alias'], '['), JSONExtract(a['hopwatch.alias'], 'Array(String)'), [a['hopwatch.alias']])),
            [a['messaging.message.id']])))) AS aliases,
    if(role = 'receive', leftUTF8(a['hopwatch.dead_letter.receiver'], 512), '') AS dead_receiver,
    leftUTF8(a['hopwatch.dead_letter.reason'], 256) AS dead_reason,
    leftUTF8(a['hopwatch.subscription.pattern'], 512) AS pattern,
    a['hopwatch.subscription.durable'] = 'true' AS durable,
    mapApply((k, v) -> (substring(k, 14), leftUTF8(v, 256)), mapFilter((k, v) -> startsWith(k, 'hopwatch.key.'), a)) AS keys,
    -- Not what has a column of its own.
    mapFilter((k, v) -> NOT startsWith(k, 'hopwatch.') AND k NOT IN (
        'messaging.system', 'messaging.operation.type', 'messaging.operation.name', 'messaging.destination.name',
        'messaging.destination.partition.id', 'messaging.kafka.offset', 'messaging.consumer.group.name',
        'messaging.message.id', 'messaging.message.conversation_id', 'rpc.system.name', 'rpc.service', 'rpc.method'), a) AS attrs,
    events,
    links
FROM
(
    SELECT
        * EXCEPT (role),
        multiIf(
            half = 'call', CAST('call', 'Enum8(\'none\' = 0, \'send\' = 1, \'receive\' = 2, \'settle\' = 3, \'commit\' = 4, \'call\' = 5, \'serve\' = 6, \'open\' = 7, \'subscribe\' = 8, \'unsubscribe\' = 9)'),
            half = 'serve', CAST('serve', 'Enum8(\'none\' = 0, \'send\' = 1, \'receive\' = 2, \'settle\' = 3, \'commit\' = 4, \'call\' = 5, \'serve\' = 6, \'open\' = 7, \'subscribe\' = 8, \'unsubscribe\' = 9)'),
            r.role) AS role
    FROM
    (
        -- Which half an open call's report is about; of a message '' (there the operation says process).
        SELECT *, if(role = 'open' AND NOT is_messaging AND a['hopwatch.call.half'] IN ('call', 'serve'), a['hopwatch.call.half'], '') AS half
        FROM recognised
    ) AS r
);

-- Among spans and in their totals it is a report.
ALTER TABLE spans_from_incoming MODIFY QUERY
SELECT
    day, started_at, duration, trace_id, span_id, parent_id, flow, name, kind, status, status_message, service, resource,
    scope,
    if(kind = 'internal' AND role IN ('call', 'serve'), CAST('open', 'Enum8(\'none\' = 0, \'send\' = 1, \'receive\' = 2, \'settle\' = 3, \'commit\' = 4, \'call\' = 5, \'serve\' = 6, \'open\' = 7, \'subscribe\' = 8, \'unsubscribe\' = 9)'), role) AS role,
    system, operation, destination, receiver, message, own_id, attempt, settle, reason, keys, attrs, events
FROM incoming;

ALTER TABLE span_totals_from_incoming MODIFY QUERY
SELECT
    day, service, name, toString(kind) AS kind, toString(status) AS status,
    -- 2, 4, 8 … ms up to 16 s, and what is longer.
    toUInt8(least(14, greatest(0, ceil(log2(duration / 1000000))-1))) AS bucket,
    count() AS calls,
    sum(duration) AS ns
FROM incoming
WHERE role NOT IN ('subscribe', 'unsubscribe', 'open') AND NOT (incoming.kind = 'internal' AND role IN ('call', 'serve'))
GROUP BY day, service, name, kind, status, bucket;

-- What services lost before it could reach the collector: counts since a process began, so that repeating a report changes
-- nothing and a later one makes up for one that was lost. One row per minute, so that it can be told when.
CREATE TABLE IF NOT EXISTS losses
(
    day Date,
    service LowCardinality(String),
    instance String,                                                        -- one process: an id its exporter gave itself
    reason LowCardinality(String),
    minute DateTime('UTC'),
    spans SimpleAggregateFunction(max, UInt64),                             -- since the process began
    since SimpleAggregateFunction(min, DateTime64(6, 'UTC')),               -- when the oldest of those just lost had ended
    until SimpleAggregateFunction(max, DateTime64(6, 'UTC'))                -- when it was told
)
ENGINE = {{AggregatingMergeTree}}
PARTITION BY day
ORDER BY (service, instance, reason, minute)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS losses_from_recognised TO losses AS
SELECT
    if(toDate(until) BETWEEN today() - 60 AND today() + 1, toDate(until), today()) AS day,
    service,
    leftUTF8(a['hopwatch.losses.id'], 64) AS instance,
    leftUTF8(substring(lost.1, 15), 64) AS reason,
    toStartOfMinute(toDateTime(until, 'UTC')) AS minute,
    toUInt64OrZero(lost.2) AS spans,
    toDateTime64(started_at, 6, 'UTC') AS since,
    toDateTime64(addNanoseconds(started_at, duration), 6, 'UTC') AS until
FROM (SELECT started_at, duration, service, a FROM recognised WHERE a['hopwatch.report'] = 'losses' AND a['hopwatch.losses.id'] != '')
ARRAY JOIN arraySlice(arrayFilter(pair -> startsWith(pair.1, 'hopwatch.lost.'), CAST(a, 'Array(Tuple(String, String))')), 1, 16) AS lost;
