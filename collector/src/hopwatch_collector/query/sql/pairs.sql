-- Stage: all pairs of a message in `messages` and a receiver that there is anything to say about, into `pairs`: receivers that were
-- seen, and those owed the message because they were entitled to its destination when it was sent. A message nobody is known to
-- be owed has one pair without a receiver.
-- Parameters: none. Of the messages it has what the next stages look at: every join and every step costs by what it passes on.
-- (Steps are small because the engine works an alias out anew wherever it is mentioned in the same step.)
-- stage: titles
CREATE OR REPLACE TEMPORARY TABLE pairs ENGINE = Memory AS
WITH
titled AS
(
    SELECT
        m.message AS message, m.system AS system, m.destination AS destination, m.partition AS partition, m.offset AS offset,
        m.producer AS producer, m.sender_seen AS sender_seen, m.sent_at AS sent_at, m.confirmed_at AS confirmed_at, m.first_at AS first_at,
        m.call AS call, m.outcome AS outcome, m.peer AS peer, m.receiver_seen AS receiver_seen, m.receivers.1 AS seen,
        o.expires_at AS expires_at, o.traced AS traced, o.routed AS routed, o.handed AS handed,
        -- Entitled when the broker took it, which is some time between the call and its answer.
        arrayFilter(t -> greatest(m.sent_at, m.confirmed_at) >= t.3 AND m.sent_at <= t.4, titles) AS entitled,
        -- Titles of then, whatever they are worth, and of a little later: brokers are not asked all the time.
        arrayFilter(t -> NOT t.7 AND t.3 <= m.sent_at + INTERVAL 30 SECOND AND m.sent_at <= t.4, titles) AS near
    FROM messages AS m
    LEFT JOIN
    (
        SELECT
            message,
            minIf(addMilliseconds(at, number), kind = 'ttl') AS expires_at,
            countIf(kind = 'published') > 0 AS traced,
            groupUniqArrayIf(1000)(toString(t.receiver), kind = 'routed') AS routed,
            groupArrayIf(1000)((toString(t.receiver), at), kind = 'handed') AS handed
        FROM told AS t
        WHERE message IN (SELECT message FROM picked)
        GROUP BY message
    ) AS o ON m.message = o.message
    LEFT JOIN titles AS t ON m.system = t.system AND m.destination = t.destination
),
sorted AS
(
    SELECT
        *,
        arrayFilter(t -> NOT t.5 AND NOT t.6 AND NOT t.7, entitled) AS plain,
        arrayFilter(t -> t.7, entitled) AS expected,
        -- Where the broker says of this very message where it went, no title counts.
        arrayDistinct(arrayConcat(routed, handed.1)) AS went_to,
        if(receiver_seen, 0, outcome IN ('returned', 'refused', 'duplicate', if(empty(routed), 'unconfirmed', ''))) AS not_published
    FROM titled
),
valued AS
(
    SELECT *, if(notEmpty(plain), plain, arrayFilter(t -> t.5, entitled)) AS valid
    FROM sorted
),
paired AS
(
    SELECT
        *,
        if(notEmpty(valid) OR traced, 0, arrayExists(t -> t.6, entitled)) AS maybe_owed,
        arrayFilter(name -> NOT has(seen, name), multiIf(
            not_published, [],
            traced, arrayDistinct(arrayConcat(expected.1, went_to)),
            NOT sender_seen, [],
            empty(expected), arrayDistinct(valid.1),
            -- A NATS client that only the server knows of may be the plain subscriber that is declared.
            arrayDistinct(arrayConcat(expected.1, arrayFilter(t ->
                NOT startsWith(t.1, 'client ') OR NOT arrayExists(e -> endsWith(e.1, concat(':', t.8)), expected), valid).1)))) AS unseen
    FROM valued
),
told_apart AS
(
    SELECT
        *,
        arrayJoin(multiIf(
            notEmpty(seen) OR notEmpty(unseen), arrayConcat(seen, unseen),
            call AND outcome IN ('confirmed', 'sent', ''), [peer],
            [''])) AS receiver
    FROM paired
)
SELECT
    message, receiver, system, destination, partition, offset, producer, sender_seen, sent_at, confirmed_at, first_at,
    expires_at, traced, not_published, maybe_owed,
    has(if(traced, went_to, valid.1), receiver) AS owed,
    if(traced, owed, arrayExists(t -> t.1 = receiver AND t.2, valid)) AS held,
    arrayMap(h -> h.2, arrayFilter(h -> h.1 = receiver, handed)) AS handed_at,
    -- A receiver that is declared, others may know of too, or of one that could be it: a NATS client of the same subject.
    multiIf(
        NOT has(expected.1, receiver),                                                               '',
        has(valid.1, receiver),                                                                      'confirmed',
        has(near.1, receiver),                                                                       'doubtful',
        arrayExists(t -> startsWith(t.1, 'client ') AND endsWith(receiver, concat(':', t.8)), near), 'doubtful',
                                                                                                     'alone') AS declared
FROM told_apart
