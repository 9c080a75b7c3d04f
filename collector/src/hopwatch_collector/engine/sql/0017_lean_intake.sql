-- The same as before, at less cost: where what is rare has to be looked for, whether it is there at all is asked first.
ALTER TABLE decoded_from_otlp MODIFY QUERY
WITH
    -- Old spellings (and what only some libraries write) → the names in force.
    ['messaging.destination', 'messaging.destination_name', 'messaging.operation', 'messaging.kafka.partition',
     'messaging.kafka.destination.partition', 'messaging.kafka.source.partition', 'messaging.kafka.message.offset',
     'messaging.kafka.consumer.group', 'messaging.kafka.consumer_group', 'messaging.consumer_group',
     'messaging.consumer_id', 'messaging.rabbitmq.routing_key', 'messaging.message_id', 'messaging.conversation_id',
     'messaging.client_id', 'messaging.kafka.message_key', 'messaging.message_payload_size_bytes',
     'messaging.message.payload_size_bytes', 'messaging.rabbitmq.delivery_tag',
     'http.method', 'http.status_code', 'http.target', 'http.url',
     'net.peer.name', 'net.peer.port', 'net.peer.ip', 'net.sock.peer.addr', 'net.sock.peer.port', 'http.host',
     'rpc.system', 'rpc.grpc.status_code', 'exception.type'] AS old_names,
    ['messaging.destination.name', 'messaging.destination.name', 'messaging.operation.type', 'messaging.destination.partition.id',
     'messaging.destination.partition.id', 'messaging.destination.partition.id', 'messaging.kafka.offset',
     'messaging.consumer.group.name', 'messaging.consumer.group.name', 'messaging.consumer.group.name',
     'messaging.client.id', 'messaging.rabbitmq.destination.routing_key', 'messaging.message.id', 'messaging.message.conversation_id',
     'messaging.client.id', 'messaging.kafka.message.key', 'messaging.message.body.size',
     'messaging.message.body.size', 'messaging.rabbitmq.message.delivery_tag',
     'http.request.method', 'http.response.status_code', 'url.path', 'url.full',
     'server.address', 'server.port', 'server.address', 'server.address', 'server.port', 'server.address',
     'rpc.system.name', 'rpc.response.status_code', 'error.type'] AS new_names
SELECT
    service,
    resource,
    scope,
    fromUnixTimestamp64Nano(toInt64(least(span.start_time_unix_nano, 9000000000000000000)), 'UTC') AS started_at,
    if(span.end_time_unix_nano > span.start_time_unix_nano, span.end_time_unix_nano - span.start_time_unix_nano, 0) AS duration,
    toFixedString(substring(span.trace_id, 1, 16), 16) AS trace_id,
    toFixedString(substring(span.span_id, 1, 8), 8) AS span_id,
    toFixedString(substring(span.parent_span_id, 1, 8), 8) AS parent_id,
    leftUTF8(span.name, 512) AS name,
    CAST(if(span.kind BETWEEN 0 AND 5, span.kind, 0), 'Enum8(\'unspecified\' = 0, \'internal\' = 1, \'server\' = 2, \'client\' = 3, \'producer\' = 4, \'consumer\' = 5)') AS kind,
    CAST(if(span.status.code BETWEEN 0 AND 2, span.status.code, 0), 'Enum8(\'unset\' = 0, \'ok\' = 1, \'error\' = 2)') AS status,
    leftUTF8(span.status.message, 4096) AS status_message,
    span.flags AS flags,
    CAST((
        arrayMap(k -> transform(k, old_names, new_names, k), span.attributes.key),
        -- Nearly all attributes are texts and whole numbers: to ask each value for all the other things it may be took a third of this view.
        if(arrayExists(is -> is NOT IN ('string_value', 'int_value'), span.attributes.value.value),
            arrayMap({{as_text}}, span.attributes.value),
            arrayMap((is, text, number) -> if(is = 'string_value', text, toString(number)),
                span.attributes.value.value, span.attributes.value.string_value, span.attributes.value.int_value))),
        'Map(LowCardinality(String), String)') AS a,
    arrayMap(e -> (
        fromUnixTimestamp64Nano(toInt64(least(e.time_unix_nano, 9000000000000000000)), 'UTC'),
        leftUTF8(e.name, 256),
        toJSONString(CAST((e.attributes.key, arrayMap({{as_text}}, e.attributes.value)), 'Map(String, String)'))), span.events) AS events,
    CAST(arrayMap(l -> (
        toFixedString(substring(l.trace_id, 1, 16), 16),
        toFixedString(substring(l.span_id, 1, 8), 8),
        toJSONString(CAST((l.attributes.key, arrayMap({{as_text}}, l.attributes.value)), 'Map(String, String)'))), span.links),
        'Array(Tuple(trace_id FixedString(16), span_id FixedString(8), attrs String))') AS links
FROM
(
    SELECT service, resource, leftUTF8(scope_spans.scope.name, 256) AS scope, arrayJoin(scope_spans.spans) AS span
    FROM
    (
        SELECT
            leftUTF8(resource_spans.resource.attributes.value[indexOf(resource_spans.resource.attributes.key, 'service.name')].string_value, 256) AS service,
            sipHash64(toString(resource_spans.resource)) AS resource,
            arrayJoin(resource_spans.scope_spans) AS scope_spans
        FROM (SELECT arrayJoin(resource_spans) AS resource_spans FROM otlp)
    )
);

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
    leftUTF8(a['hopwatch.broker'], 256) AS broker,
    leftUTF8(a['hopwatch.member'], 256) AS member,
    leftUTF8(a['hopwatch.ledger'], 16) AS tells,
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
    if(mapContains(a, 'messaging.message.id') OR mapContains(a, 'hopwatch.alias'),
        arrayFilter(alias -> alias != '' AND lower(alias) != travelled_text AND NOT match(alias, '^[0-9]{1,6}$'),
            arrayMap(alias -> leftUTF8(alias, 256), arrayDistinct(arrayConcat(
                if(a['hopwatch.alias'] = '', [], if(startsWith(a['hopwatch.alias'], '['), JSONExtract(a['hopwatch.alias'], 'Array(String)'), [a['hopwatch.alias']])),
                [a['messaging.message.id']])))),
        []) AS aliases,
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

-- What most batches hold none of is told from the rest once, by one filter, instead of by each of the views that look for it: the
-- engine analyses a view anew for every block it is given, and gives it none where the filter leaves nothing.

-- Of spans: reports of subscriptions, commits, dead letters, other names of messages, links, and facts told by the sending span alone.
CREATE TABLE IF NOT EXISTS rare_incoming
(
    day Date,
    started_at DateTime64(9, 'UTC'),
    trace_id FixedString(16),
    span_id FixedString(8),
    flow FixedString(16),
    service LowCardinality(String),
    resource UInt64,
    role Enum8('none' = 0, 'send' = 1, 'receive' = 2, 'settle' = 3, 'commit' = 4, 'call' = 5, 'serve' = 6, 'open' = 7,
               'subscribe' = 8, 'unsubscribe' = 9),
    system LowCardinality(String),
    broker LowCardinality(String),
    destination LowCardinality(String),
    receiver LowCardinality(String),
    message FixedString(16),
    messages Array(FixedString(16)),
    origin_trace FixedString(16),
    origin_span FixedString(8),
    partition LowCardinality(String),
    offset Int64,
    aliases Array(String),
    dead_receiver LowCardinality(String),
    dead_reason String,
    pattern LowCardinality(String),
    durable UInt8,
    links Array(Tuple(trace_id FixedString(16), span_id FixedString(8), attrs String))
)
ENGINE = Null;

-- What a span tells besides what it is about: how long its message may live, seeks, losses.
CREATE TABLE IF NOT EXISTS rare_recognised
(
    started_at DateTime64(9, 'UTC'),
    duration UInt64,
    service LowCardinality(String),
    resource UInt64,
    a Map(LowCardinality(String), String),
    travelled FixedString(16),
    own_id UInt8,
    role Enum8('none' = 0, 'send' = 1, 'receive' = 2, 'settle' = 3, 'commit' = 4, 'call' = 5, 'serve' = 6, 'open' = 7,
               'subscribe' = 8, 'unsubscribe' = 9)
)
ENGINE = Null;

DROP VIEW IF EXISTS told_by_senders;

CREATE MATERIALIZED VIEW IF NOT EXISTS told_from_rare TO told AS
SELECT
    if(toDate(started_at) BETWEEN today() - 60 AND today() + 1, toDate(started_at), today()) AS day,
    travelled AS message,
    '' AS receiver,
    'ttl' AS kind,
    toDateTime64(started_at, 6, 'UTC') AS at,
    toInt64OrZero(a['hopwatch.message.ttl']) AS number
FROM rare_recognised
WHERE role = 'send' AND own_id AND match(a['hopwatch.message.ttl'], '^[0-9]{1,12}$');

DROP VIEW IF EXISTS moves_from_recognised;

CREATE MATERIALIZED VIEW IF NOT EXISTS moves_from_rare TO moves AS
SELECT
    if(toDate(started_at) BETWEEN today() - 60 AND today() + 1, toDate(started_at), today()) AS day,
    leftUTF8(a['hopwatch.broker'], 256) AS broker,
    leftUTF8(a['hopwatch.destination'], 512) AS destination,
    leftUTF8(a['hopwatch.receiver'], 512) AS receiver,
    leftUTF8(a['messaging.destination.partition.id'], 256) AS partition,
    ifNull(toInt64OrNull(a['messaging.kafka.offset']), -1) AS offset,
    ifNull(toInt64OrNull(a['hopwatch.skipped.until']), -1) AS until,
    toDateTime64(started_at, 6, 'UTC') AS at,
    resource
FROM rare_recognised
WHERE a['hopwatch.report'] = 'skip' AND offset >= 0 AND until >= 0;

DROP VIEW IF EXISTS losses_from_recognised;

CREATE MATERIALIZED VIEW IF NOT EXISTS losses_from_rare TO losses AS
SELECT
    if(toDate(until) BETWEEN today() - 60 AND today() + 1, toDate(until), today()) AS day,
    service,
    resource,
    leftUTF8(a['hopwatch.losses.id'], 64) AS instance,
    leftUTF8(substring(lost.1, 15), 64) AS reason,
    toStartOfMinute(toDateTime(until, 'UTC')) AS minute,
    toUInt64OrZero(lost.2) AS spans,
    toDateTime64(started_at, 6, 'UTC') AS since,
    toDateTime64(addNanoseconds(started_at, duration), 6, 'UTC') AS until
FROM (SELECT started_at, duration, service, resource, a FROM rare_recognised WHERE a['hopwatch.report'] = 'losses' AND a['hopwatch.losses.id'] != '')
ARRAY JOIN arraySlice(arrayFilter(pair -> startsWith(pair.1, 'hopwatch.lost.'), CAST(a, 'Array(Tuple(String, String))')), 1, 16) AS lost;

CREATE MATERIALIZED VIEW IF NOT EXISTS rare_from_recognised TO rare_recognised AS
SELECT started_at, duration, service, resource, a, travelled, own_id, role
FROM recognised
WHERE mapContains(a, 'hopwatch.report') OR mapContains(a, 'hopwatch.message.ttl');

DROP VIEW IF EXISTS ledger_from_dead_letters;

CREATE MATERIALIZED VIEW IF NOT EXISTS ledger_from_rare TO ledger AS
SELECT
    day,
    message,
    dead_receiver AS receiver,
    toDateTime64(started_at, 6, 'UTC') AS started_at,
    toDateTime64(started_at, 6, 'UTC') AS ended_at,
    system,
    broker,
    trace_id,
    flow,
    1 AS dead,
    dead_reason AS reason,
    resource,
    now64(3, 'UTC') AS seen_at
FROM rare_incoming
WHERE dead_receiver != '' AND message != toFixedString('', 16);

DROP VIEW IF EXISTS commits_from_incoming;

CREATE MATERIALIZED VIEW IF NOT EXISTS commits_from_rare TO commits AS
SELECT
    day, broker, destination, receiver, partition, offset,
    toDateTime64(started_at, 6, 'UTC') AS at,
    toDateTime64(started_at, 6, 'UTC') AS last_at,
    resource
FROM rare_incoming
WHERE role = 'commit' AND offset >= 0;

DROP VIEW IF EXISTS durable_subscriptions_from_incoming;

CREATE MATERIALIZED VIEW IF NOT EXISTS durable_subscriptions_from_rare TO durable_subscriptions AS
SELECT
    day, system, broker, pattern, receiver, resource, service,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64('2299-01-01 00:00:00', 6, 'UTC')) AS first_at,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS last_at,
    if(role = 'unsubscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS unsubscribed_at,
    now64(3, 'UTC') AS learnt_at,
    now64(3, 'UTC') AS seen_at
FROM rare_incoming
WHERE role IN ('subscribe', 'unsubscribe') AND pattern != '' AND receiver != '' AND durable;

DROP VIEW IF EXISTS brief_subscriptions_from_incoming;

CREATE MATERIALIZED VIEW IF NOT EXISTS brief_subscriptions_from_rare TO brief_subscriptions AS
SELECT
    day, toStartOfInterval(toDateTime(started_at, 'UTC'), INTERVAL 15 SECOND) AS span_of_time, system, broker, pattern, receiver, resource, service,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64('2299-01-01 00:00:00', 6, 'UTC')) AS first_at,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS last_at,
    if(role = 'unsubscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS unsubscribed_at,
    now64(3, 'UTC') AS learnt_at,
    now64(3, 'UTC') AS seen_at
FROM rare_incoming
WHERE role IN ('subscribe', 'unsubscribe') AND pattern != '' AND receiver != '' AND NOT durable;

DROP VIEW IF EXISTS aliases_from_incoming;

CREATE MATERIALIZED VIEW IF NOT EXISTS aliases_from_rare TO aliases AS
SELECT day, arrayJoin(aliases) AS alias, message
FROM rare_incoming
WHERE notEmpty(aliases) AND message != toFixedString('', 16);

DROP VIEW IF EXISTS links_from_incoming;

CREATE MATERIALIZED VIEW IF NOT EXISTS links_from_rare TO links AS
SELECT day, trace_id, span_id, flow, link.trace_id AS to_trace, link.span_id AS to_span, link.attrs AS attrs
FROM (SELECT day, trace_id, span_id, flow, arrayJoin(links) AS link FROM rare_incoming);

DROP VIEW IF EXISTS senders_wanted_from_incoming;

CREATE MATERIALIZED VIEW IF NOT EXISTS senders_wanted_from_rare TO senders_wanted AS
SELECT DISTINCT
    toDate(now64(6, 'UTC')) AS day, now64(6, 'UTC') AS seen_at, toFixedString(concat(substring(origin.1, 9, 8), origin.2), 16) AS message
FROM
(
    SELECT arrayJoin(if(empty(messages), [(origin_trace, origin_span)], arrayMap(l -> (l.trace_id, l.span_id), links))) AS origin
    FROM rare_incoming
    WHERE origin_span != toFixedString('', 8)
);

CREATE MATERIALIZED VIEW IF NOT EXISTS rare_from_incoming TO rare_incoming AS
SELECT
    day, started_at, trace_id, span_id, flow, service, resource, role, system, broker, destination, receiver, message, messages,
    origin_trace, origin_span, partition, offset, aliases, dead_receiver, dead_reason, pattern, durable, links
FROM incoming
WHERE role IN ('commit', 'subscribe', 'unsubscribe') OR dead_receiver != '' OR origin_span != toFixedString('', 8)
    OR notEmpty(aliases) OR notEmpty(links);

-- Moments in the order of random ids, durations and small numbers: what 64 of them have in common is kept once, bit by bit. In every
-- order that was tried that takes less room than their differences, and no more time.
ALTER TABLE ledger
    MODIFY COLUMN started_at CODEC(T64('bit'), ZSTD(1)),
    MODIFY COLUMN ended_at CODEC(T64('bit'), ZSTD(1));

ALTER TABLE deliveries
    MODIFY COLUMN first_at CODEC(T64('bit'), ZSTD(1)),
    MODIFY COLUMN received_at CODEC(T64('bit'), ZSTD(1)),
    MODIFY COLUMN received_in CODEC(T64('bit'), ZSTD(1)),
    MODIFY COLUMN settled_in CODEC(T64('bit'), ZSTD(1)),
    MODIFY COLUMN worked_for CODEC(T64('bit'), ZSTD(1));

ALTER TABLE attention
    MODIFY COLUMN first_at CODEC(T64('bit'), ZSTD(1)),
    MODIFY COLUMN since CODEC(T64('bit'), ZSTD(1));

ALTER TABLE spans
    MODIFY COLUMN duration CODEC(T64('bit'), ZSTD(1)),
    MODIFY COLUMN attempt CODEC(T64('bit'), ZSTD(1));

-- When a message was sent and since when its delivery stands as it does are told by how many µs after its first fact that was: mostly
-- none and a moment's, which take a fraction of the room. What has not happened stays exactly 1970.
ALTER TABLE deliveries
    ADD COLUMN IF NOT EXISTS sent_after Int64 CODEC(T64('bit'), ZSTD(1)) AFTER first_at,
    ADD COLUMN IF NOT EXISTS since_after Int64 CODEC(T64('bit'), ZSTD(1)) AFTER sent_after;

ALTER TABLE deliveries
    UPDATE
        sent_after = toUnixTimestamp64Micro(sent_at) - toUnixTimestamp64Micro(first_at),
        since_after = toUnixTimestamp64Micro(since) - toUnixTimestamp64Micro(first_at)
    WHERE 1
    SETTINGS mutations_sync = 2;

ALTER TABLE deliveries
    DROP COLUMN settled_at,
    DROP COLUMN sent_at,
    DROP COLUMN since,
    ADD COLUMN sent_at DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(toUnixTimestamp64Micro(first_at) + sent_after, 'UTC'),
    ADD COLUMN since DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(toUnixTimestamp64Micro(first_at) + since_after, 'UTC'),
    ADD COLUMN settled_at DateTime64(6, 'UTC')
        ALIAS if(verdict = 'settled', fromUnixTimestamp64Micro(toUnixTimestamp64Micro(first_at) + since_after, 'UTC'), toDateTime64(0, 6, 'UTC'))
