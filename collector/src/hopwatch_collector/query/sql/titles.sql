-- Stage: who was entitled, and when, to the destinations of the messages in `picked`, into `titles`.
-- Parameters: since and until, between which all picked messages have their first fact; clock_processes, clock_us, clock_slack as
-- in evidence.sql.
CREATE OR REPLACE TEMPORARY TABLE titles ENGINE = Memory AS
WITH
-- When a receiver was entitled to a pattern. Durable: from its first report until it unsubscribed.
-- Others: while reports kept coming (every 15 s; three missed in a row end it).
entitled AS
(
    SELECT
        system, pattern, receiver, durable,
        min(first_at) - toIntervalMicrosecond(transform(resource, {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0))) AS from_at,
        if(max(unsubscribed_at) > max(last_at), max(unsubscribed_at), toDateTime64('2299-01-01 00:00:00', 6, 'UTC')) - toIntervalMicrosecond(transform(resource, {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0))) AS until_at
    FROM receivers
    WHERE durable
    GROUP BY system, pattern, receiver, durable, resource
    UNION ALL
    SELECT
        system, pattern, receiver, 0 AS durable,
        min(first_at) - toIntervalMicrosecond(transform(resource, {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0))) AS from_at,
        max(until_at) - toIntervalMicrosecond(transform(resource, {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0))) AS until_at
    FROM
    (
        SELECT *, sum(fresh) OVER (PARTITION BY system, pattern, receiver, resource ORDER BY first_at) AS spell
        FROM
        (
            SELECT
                *,
                first_at > lagInFrame(until_at, 1, toDateTime64(0, 6, 'UTC'))
                    OVER (PARTITION BY system, pattern, receiver, resource ORDER BY first_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS fresh
            FROM
            (
                SELECT
                    system, pattern, receiver, resource, first_at, last_at,
                    arrayMin(arrayPushBack(arrayFilter(u -> u > last_at, left_at), addSeconds(last_at, 45))) AS until_at
                FROM
                (
                    SELECT
                        system, pattern, receiver, resource, first_at, last_at,
                        groupArray(unsubscribed_at) OVER (PARTITION BY system, pattern, receiver, resource) AS left_at
                    FROM
                    (
                        SELECT
                            system, pattern, receiver, resource, span_of_time,
                            min(r.first_at) AS first_at, max(r.last_at) AS last_at, max(r.unsubscribed_at) AS unsubscribed_at
                        FROM receivers AS r
                        WHERE NOT durable
                            -- A NATS client that only the server knows of may be a service that reports the subject itself.
                            AND NOT (startsWith(receiver, 'client ') AND pattern IN (
                                SELECT pattern FROM receivers
                                WHERE system = 'nats' AND endsWith(receiver, concat(':', pattern)) AND NOT startsWith(receiver, 'client ')))
                            AND span_of_time BETWEEN {since:DateTime64(6)} - toIntervalSecond(120 + {clock_slack:UInt32})
                                AND {until:DateTime64(6)} + toIntervalSecond(60 + {clock_slack:UInt32})
                        GROUP BY system, pattern, receiver, resource, span_of_time
                    )
                )
                WHERE last_at > 0
            )
        )
    )
    GROUP BY system, pattern, receiver, resource, spell
),

-- Which patterns match which destinations. Wildcards become a regular expression over '.word.word…', everything else in
-- them quoted. NATS: `*` one word, `>` one or more at the end. AMQP: `*` one word, `#` any number, after `exchange:`
-- (whose name may have colons of its own: the words that matter begin at the last one before the first wildcard).
-- Before a pattern may stand: `otherwise` (for what no other pattern lets through), `maybe` (more than the destination
-- decides), `exactly` (no wildcards). Of what the team declares (7th of a title), the same has been worked out already.
matched AS
(
    SELECT
        d.system AS system,
        d.destination AS destination,
        groupUniqArray((p.receiver, p.durable, p.from_at, p.until_at, p.otherwise, p.maybe, p.declared, p.bare)) AS titles
    FROM
    (
        SELECT DISTINCT system, destination
        FROM ledger
        WHERE message IN (SELECT message FROM picked) AND receiver = '' AND NOT call AND destination != ''
    ) AS d
    INNER JOIN
    (
        SELECT
            system, receiver, durable, from_at, until_at, 0 AS declared,
            splitByChar('\x1f', pattern) AS marked,
            marked[-1] AS bare,
            has(marked, 'otherwise') AS otherwise,
            has(marked, 'maybe') AS maybe,
            multiIf(
                has(marked, 'exactly'), '',
                system = 'rabbitmq', extract(bare, '^(.*?:)(?:[^:]*\\.)?(?:\\*|#)(?:\\.|$)'),
                '') AS prefix,
            splitByChar('.', substring(bare, length(prefix) + 1)) AS words,
            multiIf(
                has(marked, 'exactly'), '',
                system = 'nats' AND (has(words, '*') OR words[-1] = '>'),
                    concat('^', arrayStringConcat(arrayMap(word -> multiIf(
                        word = '*', '\\.[^.]+',
                        word = '>', '(\\.[^.]+)+',
                        concat('\\.', regexpQuoteMeta(word))), words)), '$'),
                prefix != '',
                    concat('^', arrayStringConcat(arrayMap(word -> multiIf(
                        word = '*', '\\.[^.]*',
                        word = '#', '(\\.[^.]*)*',
                        concat('\\.', regexpQuoteMeta(word))), words)), '$'),
                '') AS expression
        FROM entitled
        UNION ALL
        SELECT
            system, receiver, 1 AS durable, from_at, until_at, 1 AS declared,
            [] AS marked, pattern AS bare, 0 AS otherwise, 0 AS maybe, prefix, [] AS words, expression
        FROM declared FINAL
    ) AS p ON d.system = p.system
    WHERE d.destination = p.bare
        OR p.expression != '' AND startsWith(d.destination, p.prefix) AND match(
            -- No routing key is no word, not an empty one.
            if(length(d.destination) = length(p.prefix), '', concat('.', substring(d.destination, length(p.prefix) + 1))), p.expression)
    GROUP BY d.system, d.destination
)
SELECT * FROM matched
