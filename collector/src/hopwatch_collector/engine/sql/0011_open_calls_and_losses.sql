-- Calls that are reported while they are open, either half of them: the ledger shows them in flight, and stuck after
-- their deadline unless their answer, or their stream of messages, has begun. Both views are stated anew and whole.

ALTER TABLE incoming ADD COLUMN IF NOT EXISTS streaming UInt8;

ALTER TABLE ledger ADD COLUMN IF NOT EXISTS streaming SimpleAggregateFunction(max, UInt8) CODEC(ZSTD(1));

ALTER TABLE incoming_from_recognised MODIFY QUERY
WITH
    toFixedString('', 16) AS no_id,
    toFixedString('', 8) AS no_span,
    -- The half an open call is told of; of a message '' (there `operation` says process).
    if(role = 'open' AND NOT is_messaging, a['hopwatch.call.half'], '') AS half
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
    if(half != '', leftUTF8(half, 64), operation) AS operation,
    leftUTF8(multiIf(
        a['hopwatch.destination'] != '', a['hopwatch.destination'],
        is_messaging AND system = 'rabbitmq' AND routing_key != '' AND position(named, routing_key) = 0,
            if(named = '', routing_key, concat(named, ':', routing_key)),
        is_messaging AND system = 'rabbitmq' AND length(amqp_parts) = 3, concat(amqp_parts[1], ':', amqp_parts[2]),
        is_messaging, named,
        role = 'none', '',
        rpc_method != '', rpc_method,
        role = 'call' OR half = 'call', concat(http_method, ' ', peer),
        trimRight(concat(http_method, ' ', a['http.route']))), 512) AS destination,
    leftUTF8(multiIf(
        a['hopwatch.receiver'] != '', a['hopwatch.receiver'],
        role = 'serve', service,
        role NOT IN ('receive', 'settle', 'commit', 'open'), '',
        a['messaging.consumer.group.name'] != '', a['messaging.consumer.group.name'],
        a['messaging.destination.subscription.name'] != '', a['messaging.destination.subscription.name'],
        system = 'rabbitmq' AND length(amqp_parts) = 3, amqp_parts[3],
        service), 512) AS receiver,
    if(role = 'call' OR half = 'call', leftUTF8(multiIf(
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
        a['hopwatch.publish.outcome'] != '', a['hopwatch.publish.outcome'],
        role = 'send', if(status = 'error', 'refused', 'sent'),
        role != 'call', '',
        -- A call that was answered, be it with an error, was taken.
        status != 'error' OR (rpc_method = '' AND answer != ''), 'confirmed',
        rpc_method != '' AND answer NOT IN ('', '1', '4', '14', 'CANCELLED', 'DEADLINE_EXCEEDED', 'UNAVAILABLE'), 'confirmed',
        answer IN ('14', 'UNAVAILABLE') OR match(a['error.type'], '(?i)connect(ion)?_?(error|refused|reset)|name.?resolution|gaierror'), 'returned',
        'unconfirmed') AS outcome,
    multiIf(
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
    links,
    a['hopwatch.call.streaming'] = 'true' AS streaming
FROM recognised;

ALTER TABLE ledger_from_incoming MODIFY QUERY
WITH
    -- An open call is told of by either half.
    role = 'open' AND operation IN ('call', 'serve') AS open_call,
    role IN ('send', 'call') OR (open_call AND operation = 'call') AS sends
SELECT
    day,
    arrayJoin(if(empty(messages), [message], messages)) AS message,
    if(sends, '', receiver) AS receiver,
    if(sends, 0, attempt) AS attempt,
    -- Reports of open hops and late settlements are children of the hop they are about.
    multiIf(
        open_call OR NOT startsWith(scope, 'hopwatch.'), toFixedString('', 8),
        role = 'receive', span_id,
        role IN ('open', 'settle'), parent_id,
        toFixedString('', 8)) AS hop,
    toDateTime64(started_at, 6, 'UTC') AS started_at,
    -- A report of an open hop says that it began, not that it ended.
    if(role = 'open', toDateTime64(0, 6, 'UTC'), toDateTime64(addNanoseconds(started_at, duration), 6, 'UTC')) AS ended_at,
    open_call OR role IN ('call', 'serve') AS call,
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
    streaming
FROM incoming
WHERE message != toFixedString('', 16);

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
FROM recognised
ARRAY JOIN arraySlice(arrayFilter(pair -> startsWith(pair.1, 'hopwatch.lost.'), CAST(a, 'Array(Tuple(String, String))')), 1, 16) AS lost
WHERE a['hopwatch.report'] = 'losses' AND a['hopwatch.losses.id'] != '';
