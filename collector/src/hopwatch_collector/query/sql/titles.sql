-- Stage: who was entitled, and when, to the destinations of the messages in `messages`, into `titles`.
-- Parameters: since and until, between which all of them have their first fact; clock_processes and clock_us as in messages.sql, and
-- clock_slack (the most seconds a clock is off).
-- stage: messages
-- from: receivers, declared
CREATE OR REPLACE TEMPORARY TABLE titles ENGINE = Memory AS
WITH
-- When a receiver was entitled to a pattern. Durable: from its first report until it unsubscribed.
-- Others: while reports kept coming (every 15 s; three missed in a row end it).
entitled AS
(
    SELECT
        system, pattern, receiver, durable,
        toIntervalMicrosecond(transform(resource, {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0))) AS off,
        spell.1 - off AS from_at,
        spell.2 - off AS until_at
    FROM
    (
        SELECT
            system, pattern, receiver, resource, 1 AS durable,
            (min(r.first_at), if(max(r.unsubscribed_at) > max(r.last_at), max(r.unsubscribed_at), toDateTime64('2299-01-01 00:00:00', 6, 'UTC'))) AS spell
        FROM receivers AS r
        WHERE r.durable
        GROUP BY system, pattern, receiver, resource
        UNION ALL
        SELECT
            system, pattern, receiver, resource, 0 AS durable,
            arrayJoin(arrayMap(spell -> (spell[1].1, arrayMax(spell.2)),
                arraySplit((report, before) -> report.1 > before.2, reports, arrayShiftRight(reports, 1)))) AS spell
        FROM
        (
            SELECT
                system, pattern, receiver, resource,
                groupArray(unsubscribed_at) AS left_at,
                -- From when until when each holds: to the next leaving, or for three times as long as they are apart.
                arraySort(arrayMap(
                    report -> (report.1, arrayMin(arrayPushBack(arrayFilter(u -> u > report.2, left_at), addSeconds(report.2, 45)))),
                    groupArrayIf((first_at, last_at), last_at > 0))) AS reports
            FROM
            (
                SELECT
                    system, pattern, receiver, resource, span_of_time,
                    min(r.first_at) AS first_at, max(r.last_at) AS last_at, max(r.unsubscribed_at) AS unsubscribed_at
                FROM receivers AS r
                WHERE NOT r.durable
                    -- A NATS client that only the server knows of may be a service that reports the subject itself.
                    AND NOT (startsWith(receiver, 'client ') AND pattern IN (
                        SELECT pattern FROM receivers
                        WHERE system = 'nats' AND endsWith(receiver, concat(':', pattern)) AND NOT startsWith(receiver, 'client ')))
                    AND span_of_time BETWEEN {since:DateTime64(6)} - toIntervalSecond(120 + {clock_slack:UInt32})
                        AND {until:DateTime64(6)} + toIntervalSecond(60 + {clock_slack:UInt32})
                GROUP BY system, pattern, receiver, resource, span_of_time
            )
            GROUP BY system, pattern, receiver, resource
        )
    )
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
        FROM messages
        WHERE sender_seen AND NOT call AND destination != ''
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
