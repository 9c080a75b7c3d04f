-- The normaliser: every span becomes one flat row in `incoming` (kept nowhere, ENGINE = Null), from which all other
-- tables are fed. So OTLP is decoded once, and spellings of attributes are known here and nowhere else.
-- Three small steps with a table between them, because the engine analyses each view anew for every insert: as one
-- statement it took 0.5 s of CPU to do so, whatever the size of the batch; as three, a third of it.

-- Spans as they were sent, one per row.
CREATE TABLE IF NOT EXISTS decoded
(
    started_at DateTime64(9, 'UTC'),
    duration UInt64,                      -- ns
    trace_id FixedString(16),
    span_id FixedString(8),
    parent_id FixedString(8),             -- zeros: none
    name LowCardinality(String),
    kind Enum8('unspecified' = 0, 'internal' = 1, 'server' = 2, 'client' = 3, 'producer' = 4, 'consumer' = 5),
    status Enum8('unset' = 0, 'ok' = 1, 'error' = 2),
    status_message String,
    service LowCardinality(String),
    resource UInt64,
    scope LowCardinality(String),
    flags UInt32,
    a Map(LowCardinality(String), String),  -- attributes, under the names in force
    events Array(Tuple(at DateTime64(9, 'UTC'), name LowCardinality(String), attrs String)),
    links Array(Tuple(trace_id FixedString(16), span_id FixedString(8), attrs String))
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS decoded_from_otlp TO decoded AS
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
    CAST((arrayMap(k -> transform(k, old_names, new_names, k), span.attributes.key), arrayMap({{as_text}}, span.attributes.value)),
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

-- And what they are about: which message, what was done to it, through what.
CREATE TABLE IF NOT EXISTS recognised
(
    started_at DateTime64(9, 'UTC'),
    duration UInt64,                      -- ns
    trace_id FixedString(16),
    span_id FixedString(8),
    parent_id FixedString(8),             -- zeros: none
    name LowCardinality(String),
    kind Enum8('unspecified' = 0, 'internal' = 1, 'server' = 2, 'client' = 3, 'producer' = 4, 'consumer' = 5),
    status Enum8('unset' = 0, 'ok' = 1, 'error' = 2),
    status_message String,
    service LowCardinality(String),
    resource UInt64,
    scope LowCardinality(String),
    flags UInt32,
    a Map(LowCardinality(String), String),  -- attributes, under the names in force
    events Array(Tuple(at DateTime64(9, 'UTC'), name LowCardinality(String), attrs String)),
    links Array(Tuple(trace_id FixedString(16), span_id FixedString(8), attrs String)),
    travelled_text String,                -- hopwatch.message.id, lower case
    travelled FixedString(16),
    own_id UInt8,                         -- 1: that is a message id
    flow_text FixedString(16),
    is_messaging UInt8,
    named String,
    routing_key String,
    amqp_parts Array(String),
    http_method String,
    rpc_method String,
    answer String,
    system LowCardinality(String),
    operation LowCardinality(String),
    role Enum8('none' = 0, 'send' = 1, 'receive' = 2, 'settle' = 3, 'commit' = 4, 'call' = 5, 'serve' = 6, 'open' = 7,
               'subscribe' = 8, 'unsubscribe' = 9),
    parent_is_sender UInt8
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS recognised_from_decoded TO recognised AS
SELECT
    * EXCEPT (report, said),
    -- The parent sent the message unless it is known to be a span of the same process.
    parent_id != toFixedString('', 8) AND bitAnd(flags, 0x300) != 0x100 AND role IN ('receive', 'serve') AS parent_is_sender
FROM
(
    SELECT
        *,
        multiIf(
            report = 'subscribe', 'subscribe',
            report = 'unsubscribe', 'unsubscribe',
            report = 'skip', 'none',            -- the group's next commit says the same
            report != '', 'open',
            is_messaging, multiIf(
                operation = 'settle', if(own_id OR a['hopwatch.settle.outcome'] != 'commit', 'settle', 'commit'),
                operation = 'send', if(own_id OR empty(links), 'send', 'none'),
                -- About a batch as a whole: without links it names no message; and aiokafka's contrib has a span per record besides.
                NOT own_id AND a['messaging.batch.message_count'] != ''
                    AND (empty(links) OR scope = 'opentelemetry.instrumentation.aiokafka'), 'none',
                operation IN ('receive', 'process'), if(own_id OR notEmpty(links) OR kind = 'consumer', 'receive', 'none'),
                'none'),
            http_method = '' AND rpc_method = '', 'none',
            kind = 'client', 'call',
            kind = 'server', 'serve',
            'none') AS role
    FROM
    (
        SELECT
            *,
            length(travelled_text) = 36 AND travelled != toFixedString('', 16) AND UUIDNumToString(travelled) = travelled_text AS own_id,
            splitByChar(':', named) AS amqp_parts,
            if(rpc_method != '', a['rpc.response.status_code'], a['http.response.status_code']) AS answer,
            leftUTF8(multiIf(is_messaging, a['messaging.system'], rpc_method != '', if(a['rpc.system.name'] = '', 'rpc', a['rpc.system.name']), http_method != '', 'http', ''), 64) AS system,
            leftUTF8(multiIf(
                NOT is_messaging, '',
                said != '', transform(said, ['publish', 'deliver', 'create'], ['send', 'process', 'send'], said),
                kind = 'producer', 'send',
                kind = 'consumer', 'process',
                a['messaging.operation.name']), 64) AS operation
        FROM
        (
            SELECT
                *,
                a['hopwatch.report'] AS report,
                lower(a['hopwatch.message.id']) AS travelled_text,
                UUIDStringToNum(lower(a['hopwatch.message.id'])) AS travelled,
                toFixedString(unhex(if(match(a['hopwatch.flow.id'], '^[0-9a-f]{32}$'), a['hopwatch.flow.id'], repeat('0', 32))), 16) AS flow_text,
                a['messaging.system'] != '' AS is_messaging,
                a['messaging.operation.type'] AS said,
                -- One widespread library writes `exchange,routing key`, with nothing before the comma for the default exchange.
                if(scope = 'opentelemetry.instrumentation.aio_pika' AND kind = 'producer',
                    trim(LEADING ':' FROM replaceOne(a['messaging.destination.name'], ',', ':')), a['messaging.destination.name']) AS named,
                a['messaging.rabbitmq.destination.routing_key'] AS routing_key,
                a['http.request.method'] AS http_method,
                multiIf(a['rpc.method'] = '', '', position(a['rpc.method'], '/') > 0, a['rpc.method'], concat(a['rpc.service'], '/', a['rpc.method'])) AS rpc_method
            FROM decoded
        )
    )
);

-- The flat row.
CREATE TABLE IF NOT EXISTS incoming
(
    day Date,                             -- partition: the day the span began, or today where that is absurd
    started_at DateTime64(9, 'UTC'),
    duration UInt64,                      -- ns
    trace_id FixedString(16),
    span_id FixedString(8),
    parent_id FixedString(8),             -- zeros: none
    flow FixedString(16),                 -- zeros: the trace id
    name LowCardinality(String),
    kind Enum8('unspecified' = 0, 'internal' = 1, 'server' = 2, 'client' = 3, 'producer' = 4, 'consumer' = 5),
    status Enum8('unset' = 0, 'ok' = 1, 'error' = 2),
    status_message String,
    error String,                         -- short words for what went wrong, '' if nothing
    service LowCardinality(String),
    resource UInt64,                      -- key into `resources`
    scope LowCardinality(String),
    role Enum8('none' = 0, 'send' = 1, 'receive' = 2, 'settle' = 3, 'commit' = 4, 'call' = 5, 'serve' = 6, 'open' = 7,
               'subscribe' = 8, 'unsubscribe' = 9),
    system LowCardinality(String),
    operation LowCardinality(String),
    destination LowCardinality(String),
    receiver LowCardinality(String),
    peer LowCardinality(String),          -- calls: the address called
    own_id UInt8,                         -- 1: `message` is the message id that travelled with the message
    message FixedString(16),              -- key of the message this span sent or received, zeros: none
    messages Array(FixedString(16)),      -- keys of all of them, where a batch was received
    origin_trace FixedString(16),         -- receivers without a message id: the context that sent it
    origin_span FixedString(8),
    attempt UInt16,
    outcome LowCardinality(String),       -- hopwatch.publish.outcome
    settle LowCardinality(String),        -- hopwatch.settle.outcome
    reason String,
    partition LowCardinality(String),     -- Kafka partition, JetStream stream
    offset Int64,                         -- Kafka offset, JetStream sequence; -1: none
    pending Int64,                        -- -1: not said
    conversation String,
    aliases Array(String),
    dead_receiver LowCardinality(String),
    dead_reason String,
    pattern LowCardinality(String),
    durable UInt8,
    keys Map(LowCardinality(String), String),
    attrs Map(LowCardinality(String), String),
    events Array(Tuple(at DateTime64(9, 'UTC'), name LowCardinality(String), attrs String)),
    links Array(Tuple(trace_id FixedString(16), span_id FixedString(8), attrs String))
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS incoming_from_recognised TO incoming AS
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
    links
FROM recognised;
