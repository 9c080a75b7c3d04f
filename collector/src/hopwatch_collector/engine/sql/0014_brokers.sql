-- Which broker each side means, as it was told: the cluster's id, the cluster's name and the virtual host, the server's id. Names of
-- topics, queues and groups are only good within one broker. And every row has a tenant, empty until there are any.

-- Under what a broker is known: by what clients and witnesses tell (`told`), and what it is called where it is watched (`name`).
-- Of one that only services told of, the name is empty.
CREATE TABLE IF NOT EXISTS brokers
(
    tenant LowCardinality(String) DEFAULT '',
    system LowCardinality(String),
    told String,
    name String,
    seen_at SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT now64(3, 'UTC'), -- when the engine first learnt of it, and
    last_at SimpleAggregateFunction(max, DateTime64(3, 'UTC')) DEFAULT now64(3, 'UTC')  -- when it last did: of several names the newest counts
)
ENGINE = {{AggregatingMergeTree}}
ORDER BY (tenant, system, told, name)
SETTINGS {{settings}};

ALTER TABLE durable_subscriptions
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String),
    MODIFY ORDER BY (tenant, system, pattern, receiver, resource, broker);

ALTER TABLE brief_subscriptions
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String),
    MODIFY ORDER BY (span_of_time, tenant, system, pattern, receiver, resource, broker);

ALTER TABLE commits
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String),
    ADD COLUMN IF NOT EXISTS tenant LowCardinality(String),
    MODIFY ORDER BY (destination, receiver, partition, offset, broker, tenant);

ALTER TABLE commit_heads
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String),
    MODIFY ORDER BY (tenant, destination, receiver, partition, broker);

ALTER TABLE moves
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String),
    ADD COLUMN IF NOT EXISTS tenant LowCardinality(String),
    MODIFY ORDER BY (receiver, destination, partition, at, offset, until, broker, tenant);

ALTER TABLE sightings
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String),
    ADD COLUMN IF NOT EXISTS tenant LowCardinality(String),
    MODIFY ORDER BY (system, receiver, partition, offset, kind, broker, tenant);

ALTER TABLE ledger
    ADD COLUMN IF NOT EXISTS broker SimpleAggregateFunction(max, LowCardinality(String)) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '' CODEC(ZSTD(1));

ALTER TABLE told ADD COLUMN IF NOT EXISTS broker LowCardinality(String) DEFAULT '' CODEC(ZSTD(1));

-- The last look before this one: until then all was as the row before it says. 1970: not told.
ALTER TABLE receiver_states ADD COLUMN IF NOT EXISTS unchanged_until DateTime64(6, 'UTC') DEFAULT toDateTime64(0, 6, 'UTC') CODEC(Delta(8), ZSTD(1));

ALTER TABLE spans ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE told ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE watches ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE resources ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE losses ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE aliases ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE strangers ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT '';

ALTER TABLE incoming
    ADD COLUMN IF NOT EXISTS broker LowCardinality(String) AFTER system,
    ADD COLUMN IF NOT EXISTS member String,                -- subscriptions: as whom the broker lists whoever holds them
    ADD COLUMN IF NOT EXISTS tells LowCardinality(String); -- subscriptions: `whole`, `parent` or `sampled`, what the process tells of its messages

-- The same as before, with the broker.
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
    broker,
    trace_id,
    flow,
    1 AS dead,
    dead_reason AS reason,
    resource,
    now64(3, 'UTC') AS seen_at
FROM incoming
WHERE dead_receiver != '' AND message != toFixedString('', 16);

ALTER TABLE commits_from_incoming MODIFY QUERY
SELECT
    day, broker, destination, receiver, partition, offset,
    toDateTime64(started_at, 6, 'UTC') AS at,
    toDateTime64(started_at, 6, 'UTC') AS last_at,
    resource
FROM incoming
WHERE role = 'commit' AND offset >= 0;

ALTER TABLE commit_heads_from_commits MODIFY QUERY
SELECT
    day, broker, destination, receiver, partition,
    argMaxState(CAST((offset, resource), 'Tuple(offset Int64, resource UInt64)'), c.last_at) AS latest,
    max(c.last_at) AS last_at,
    now64(3, 'UTC') AS seen_at
FROM commits AS c
GROUP BY day, broker, destination, receiver, partition;

ALTER TABLE moves_from_recognised MODIFY QUERY
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
FROM recognised
WHERE a['hopwatch.report'] = 'skip' AND offset >= 0 AND until >= 0;

ALTER TABLE durable_subscriptions_from_incoming MODIFY QUERY
SELECT
    day, system, broker, pattern, receiver, resource, service,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64('2299-01-01 00:00:00', 6, 'UTC')) AS first_at,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS last_at,
    if(role = 'unsubscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS unsubscribed_at,
    now64(3, 'UTC') AS learnt_at,
    now64(3, 'UTC') AS seen_at
FROM incoming
WHERE role IN ('subscribe', 'unsubscribe') AND pattern != '' AND receiver != '' AND durable;

ALTER TABLE brief_subscriptions_from_incoming MODIFY QUERY
SELECT
    day, toStartOfInterval(toDateTime(started_at, 'UTC'), INTERVAL 15 SECOND) AS span_of_time, system, broker, pattern, receiver, resource, service,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64('2299-01-01 00:00:00', 6, 'UTC')) AS first_at,
    if(role = 'subscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS last_at,
    if(role = 'unsubscribe', toDateTime64(started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC')) AS unsubscribed_at,
    now64(3, 'UTC') AS learnt_at,
    now64(3, 'UTC') AS seen_at
FROM incoming
WHERE role IN ('subscribe', 'unsubscribe') AND pattern != '' AND receiver != '' AND NOT durable;

-- From when until when processes told what they do as a receiver: silence is evidence only where somebody would have spoken.
CREATE TABLE IF NOT EXISTS coverage
(
    tenant LowCardinality(String) DEFAULT '',
    day Date,
    system LowCardinality(String),
    receiver LowCardinality(String),
    minute DateTime('UTC'),
    broker LowCardinality(String),
    resource UInt64,
    member String,                                                                     -- as whom the broker lists it; '': not told
    reads SimpleAggregateFunction(max, UInt8),                                         -- 1: it takes messages; a queue may be declared by others
    part SimpleAggregateFunction(max, UInt8),                                          -- 1: it tells only what a sampler picks
    first_at SimpleAggregateFunction(min, DateTime64(6, 'UTC')),
    last_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    left_at SimpleAggregateFunction(max, DateTime64(6, 'UTC'))                         -- when it said that it is no longer there; 1970: never
)
ENGINE = {{AggregatingMergeTree}}
PARTITION BY day
ORDER BY (tenant, system, receiver, minute, broker, resource, member)
SETTINGS {{settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS coverage_from_incoming TO coverage AS
SELECT
    day, system, receiver, toStartOfMinute(toDateTime(i.started_at, 'UTC')) AS minute, broker, resource, member,
    max(role IN ('receive', 'settle', 'open', 'commit') OR system != 'rabbitmq') AS reads,
    max(tells = 'sampled') AS part,
    min(toDateTime64(i.started_at, 6, 'UTC')) AS first_at,
    max(toDateTime64(i.started_at, 6, 'UTC')) AS last_at,
    max(if(role = 'unsubscribe', toDateTime64(i.started_at, 6, 'UTC'), toDateTime64(0, 6, 'UTC'))) AS left_at
FROM incoming AS i
WHERE role IN ('receive', 'settle', 'open', 'commit', 'subscribe', 'unsubscribe') AND receiver != '' AND system IN ('kafka', 'nats', 'rabbitmq')
GROUP BY day, system, receiver, minute, broker, resource, member;

-- Of what an earlier version stored: who received what, and when.
INSERT INTO coverage (day, system, receiver, minute, broker, resource, member, reads, part, first_at, last_at, left_at)
SELECT
    day, system, receiver, toStartOfMinute(toDateTime(l.started_at, 'UTC')) AS minute, '', resource, '', 1, 0,
    min(l.started_at), max(l.started_at), toDateTime64(0, 6, 'UTC')
FROM ledger AS l
WHERE receiver != '' AND attempt > 0 AND system IN ('kafka', 'nats', 'rabbitmq')
GROUP BY day, system, receiver, minute, resource;

DROP VIEW IF EXISTS telling_from_incoming;

DROP TABLE IF EXISTS telling;

-- Whose losses they are, as facts say who told them.
ALTER TABLE losses ADD COLUMN IF NOT EXISTS resource SimpleAggregateFunction(max, UInt64);

ALTER TABLE losses_from_recognised MODIFY QUERY
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
FROM (SELECT started_at, duration, service, resource, a FROM recognised WHERE a['hopwatch.report'] = 'losses' AND a['hopwatch.losses.id'] != '')
ARRAY JOIN arraySlice(arrayFilter(pair -> startsWith(pair.1, 'hopwatch.lost.'), CAST(a, 'Array(Tuple(String, String))')), 1, 16) AS lost;

CREATE MATERIALIZED VIEW IF NOT EXISTS brokers_from_incoming TO brokers AS
SELECT system, broker AS told, '' AS name, now64(3, 'UTC') AS seen_at, now64(3, 'UTC') AS last_at
FROM incoming
WHERE broker != ''
GROUP BY system, broker;

CREATE OR REPLACE VIEW subscriptions AS
SELECT tenant, day, system, broker, pattern, receiver, 1 AS durable, resource, service, first_at, last_at, unsubscribed_at, seen_at FROM durable_subscriptions
UNION ALL
SELECT tenant, day, system, broker, pattern, receiver, 0 AS durable, resource, service, first_at, last_at, unsubscribed_at, seen_at FROM brief_subscriptions
