-- Receivers as other instrumentations tell of them, and one date for every span.

ALTER TABLE decoded ADD COLUMN IF NOT EXISTS misdated UInt8; -- 1: dated by when it came, or by its end: what it said cannot be

ALTER TABLE recognised ADD COLUMN IF NOT EXISTS misdated UInt8;

ALTER TABLE incoming
    ADD COLUMN IF NOT EXISTS misdated UInt8,
    ADD COLUMN IF NOT EXISTS unnamed UInt8,                -- 1: which queue, group or consumer received was not told; `receiver` is the service
    ADD COLUMN IF NOT EXISTS reported UInt8;               -- 1: hopwatch's instrumentation tells of the receiver

-- 1: which queue, group or consumer received was not told; `receiver` is the service.
ALTER TABLE ledger ADD COLUMN IF NOT EXISTS unnamed SimpleAggregateFunction(max, UInt8) CODEC(ZSTD(1));

-- The same as before, but for the dates: no span is dated by a day that it cannot have been sent on, so that whoever asks for its
-- time finds it, and clocks are not measured by it.
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
     'rpc.system.name', 'rpc.response.status_code', 'error.type'] AS new_names,
    -- What days a span may lie in: of one that says otherwise the time is made up, and it is dated by its end, or else by when it came.
    toUInt64(toUnixTimestamp(toDateTime(today() - 60, 'UTC'))) * 1000000000 AS earliest,
    toUInt64(toUnixTimestamp(toDateTime(today() + 2, 'UTC'))) * 1000000000 - 1 AS latest,
    span.start_time_unix_nano BETWEEN earliest AND latest AS dated,
    span.end_time_unix_nano BETWEEN earliest AND latest AS ended,
    NOT dated OR NOT ended AND span.end_time_unix_nano != 0 AS odd
SELECT
    service,
    resource,
    scope,
    fromUnixTimestamp64Nano(multiIf(dated, toInt64(span.start_time_unix_nano), ended, toInt64(span.end_time_unix_nano), toUnixTimestamp64Nano(now64(9, 'UTC'))), 'UTC') AS started_at,
    if(dated AND ended AND span.end_time_unix_nano > span.start_time_unix_nano, span.end_time_unix_nano - span.start_time_unix_nano, 0) AS duration,
    odd AS misdated,
    toFixedString(substring(span.trace_id, 1, 16), 16) AS trace_id,
    toFixedString(substring(span.span_id, 1, 8), 8) AS span_id,
    toFixedString(substring(span.parent_span_id, 1, 8), 8) AS parent_id,
    leftUTF8(span.name, 512) AS name,
    CAST(if(span.kind BETWEEN 0 AND 5, span.kind, 0), 'Enum8(\'unspecified\' = 0, \'internal\' = 1, \'server\' = 2, \'client\' = 3, \'producer\' = 4, \'consumer\' = 5)') AS kind,
    CAST(if(span.status.code BETWEEN 0 AND 2, span.status.code, 0), 'Enum8(\'unset\' = 0, \'ok\' = 1, \'error\' = 2)') AS status,
    leftUTF8(span.status.message, 4096) AS status_message,
    span.flags AS flags,
    CAST((
        -- What it said stays readable.
        if(odd,
            arrayConcat(arrayMap(k -> transform(k, old_names, new_names, k), span.attributes.key), ['start_time_unix_nano', 'end_time_unix_nano']),
            arrayMap(k -> transform(k, old_names, new_names, k), span.attributes.key)),
        -- Nearly all attributes are texts and whole numbers: to ask each value for all the other things it may be took a third of this view.
        if(odd OR arrayExists(is -> is NOT IN ('string_value', 'int_value'), span.attributes.value.value),
            arrayConcat(
                arrayMap({{as_text}}, span.attributes.value),
                if(odd, [toString(span.start_time_unix_nano), toString(span.end_time_unix_nano)], [])),
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

-- The same as before; more is known of what others write. A send that links to something is a send for all that; a consumer below a
-- span of another process received from it, even if it calls its one message a batch.
ALTER TABLE recognised_from_decoded MODIFY QUERY
SELECT
    * EXCEPT (report, said, remote_parent, maybe_remote),
    -- The parent sent the message unless it is known to be a span of the same process.
    maybe_remote AND role IN ('receive', 'serve') AS parent_is_sender
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
                -- Of what was created before, the links tell: such a span is a client's. A producer's is itself what its receivers know.
                operation = 'send', if(own_id OR empty(links) OR kind = 'producer', 'send', 'none'),
                -- About a batch as a whole: without links or a sender for its parent it names no message; and aiokafka's contrib has a
                -- span per record besides.
                NOT own_id AND a['messaging.batch.message_count'] != ''
                    AND (empty(links) AND NOT (remote_parent OR a['messaging.batch.message_count'] = '1' AND kind = 'consumer' AND maybe_remote)
                        OR scope = 'opentelemetry.instrumentation.aiokafka'), 'none',
                operation IN ('receive', 'process'), if(own_id OR notEmpty(links) OR kind = 'consumer' OR remote_parent, 'receive', 'none'),
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
                parent_id != toFixedString('', 8) AND bitAnd(flags, 0x300) = 0x300 AS remote_parent,
                parent_id != toFixedString('', 8) AND bitAnd(flags, 0x300) != 0x100 AS maybe_remote,
                multiIf(
                    -- One widespread library writes `exchange,routing key`, with nothing before the comma for the default exchange
                    scope = 'opentelemetry.instrumentation.aio_pika' AND kind = 'producer',
                        trim(LEADING ':' FROM replaceOne(a['messaging.destination.name'], ',', ':')),
                    -- and others have a name for that.
                    a['messaging.destination.name'] IN ('amq.default', '<default>') AND a['messaging.system'] = 'rabbitmq', '',
                    a['messaging.destination.name']) AS named,
                a['messaging.rabbitmq.destination.routing_key'] AS routing_key,
                a['http.request.method'] AS http_method,
                multiIf(a['rpc.method'] = '', '', position(a['rpc.method'], '/') > 0, a['rpc.method'], concat(a['rpc.service'], '/', a['rpc.method'])) AS rpc_method
            FROM decoded
        )
    )
);

-- The same as before, with `unnamed` and `reported`, and more of what others call things.
ALTER TABLE incoming_from_recognised MODIFY QUERY
WITH
    toFixedString('', 16) AS no_id,
    toFixedString('', 8) AS no_span
SELECT
    toDate(started_at) AS day,
    started_at,
    misdated,
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
        -- Where the exchange and the key are told apart they are put together, unless the name has both.
        is_messaging AND system = 'rabbitmq' AND names_queue, if(named = '', routing_key, concat(named, ':', routing_key)),
        is_messaging AND system = 'rabbitmq' AND routing_key NOT IN ('', named) AND NOT endsWith(named, concat(':', routing_key))
            AND NOT startsWith(named, concat(routing_key, ':')) AND position(named, concat(':', routing_key, ':')) = 0,
            if(named = '', routing_key, concat(named, ':', routing_key)),
        is_messaging AND system = 'rabbitmq' AND length(amqp_parts) = 3, concat(amqp_parts[1], ':', amqp_parts[2]),
        is_messaging, named,
        role = 'none', '',
        rpc_method != '', rpc_method,
        role = 'call', concat(http_method, ' ', peer),
        trimRight(concat(http_method, ' ', a['http.route']))), 512) AS destination,
    leftUTF8(multiIf(
        told_receiver != '', told_receiver,
        role IN ('receive', 'serve', 'settle', 'commit', 'open'), service,
        ''), 512) AS receiver,
    told_receiver = '' AND role IN ('receive', 'settle', 'open') AND system IN ('kafka', 'nats', 'rabbitmq') AS unnamed,
    a['hopwatch.receiver'] != '' AS reported,
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
        -- A parent in another process sent it, whatever else is linked to.
        parent_is_sender AND bitAnd(flags, 0x300) = 0x300 AND length(links) < 2, trace_id,
        notEmpty(links), links[1].trace_id,
        parent_is_sender, trace_id,
        no_id) AS origin_trace,
    multiIf(
        own_id OR role NOT IN ('receive', 'serve', 'open', 'settle'), no_span,
        parent_is_sender AND bitAnd(flags, 0x300) = 0x300 AND length(links) < 2, parent_id,
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
        -- `topic.partition.offset`
        scope = 'opentelemetry.instrumentation.confluent_kafka', ifNull(toInt64OrNull(splitByChar('.', a['messaging.message.id'])[-1]), -1),
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
            r.role) AS role,
        -- The queue, group or consumer that got the message, where that is told.
        multiIf(
            a['hopwatch.receiver'] != '', a['hopwatch.receiver'],
            r.role NOT IN ('receive', 'settle', 'commit', 'open') OR half != '', '',
            a['messaging.consumer.group.name'] != '', a['messaging.consumer.group.name'],
            a['messaging.destination.subscription.name'] != '', a['messaging.destination.subscription.name'],
            system = 'rabbitmq' AND length(amqp_parts) = 3, amqp_parts[3],
            names_queue AND kind = 'consumer' AND endsWith(name, ' process') AND NOT startsWith(name, '<'), substring(name, 1, length(name) - 8),
            '') AS told_receiver
    FROM
    (
        SELECT
            *,
            -- Which half an open call's report is about; of a message '' (there the operation says process).
            if(role = 'open' AND NOT is_messaging AND a['hopwatch.call.half'] IN ('call', 'serve'), a['hopwatch.call.half'], '') AS half,
            -- Whoever tells the exchange and the key apart, and the queue by the name of the span alone: `queue process`.
            scope IN ('@opentelemetry/instrumentation-amqplib', 'io.opentelemetry.rabbitmq-2.7') AS names_queue
        FROM recognised
    ) AS r
);

-- The same as before, with `unnamed`.
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
    -- Of a moment that it did not tell its clock says nothing.
    if(misdated, 0, resource) AS resource,
    now64(3, 'UTC') AS seen_at,
    unnamed
FROM incoming
WHERE message != toFixedString('', 16);

-- The same as before, of our own instrumentation alone: what others keep back nobody knows, so their silence says nothing.
ALTER TABLE coverage_from_incoming MODIFY QUERY
SELECT
    day, system, receiver, toStartOfMinute(toDateTime(i.started_at, 'UTC')) AS minute, broker, resource, member,
    max(role IN ('receive', 'settle', 'open', 'commit') OR system != 'rabbitmq') AS reads,
    max(tells = 'sampled') AS part,
    min(toDateTime64(i.started_at, 6, 'UTC')) AS first_at,
    max(toDateTime64(i.started_at, 6, 'UTC')) AS last_at,
    max(if(role = 'unsubscribe', toDateTime64(i.started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC'))) AS left_at
FROM incoming AS i
WHERE role IN ('receive', 'settle', 'open', 'commit', 'subscribe', 'unsubscribe') AND receiver != '' AND reported AND system IN ('kafka', 'nats', 'rabbitmq')
GROUP BY day, system, receiver, minute, broker, resource, member;

-- Who read from where by the word of other instrumentations, which may keep back most of what they see.
CREATE TABLE IF NOT EXISTS foreign_readers
(
    tenant LowCardinality(String) DEFAULT '',
    day Date,
    system LowCardinality(String),
    destination LowCardinality(String),
    receiver LowCardinality(String),
    broker LowCardinality(String),
    minute DateTime('UTC')
)
ENGINE = {{ReplacingMergeTree}}
PARTITION BY day
ORDER BY (tenant, system, destination, receiver, broker, minute)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS foreign_readers_from_rare TO foreign_readers AS
SELECT DISTINCT day, system, destination, receiver, broker, toStartOfMinute(toDateTime(r.started_at, 'UTC')) AS minute
FROM rare_incoming AS r
WHERE role = 'receive' AND origin_span != toFixedString('', 8) AND destination != '' AND system IN ('kafka', 'nats', 'rabbitmq')
