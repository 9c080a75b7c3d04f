-- Stage: what brokers' own witnesses add to every row of `pairs`, into `witnessed`: how it stands with the receiver now, stood
-- when the message was sent, and said of this very message; and when they last could look.
-- Parameters: now; deadline in seconds.
-- stage: pairs
-- stage: committed
-- stage: held
-- stage: deadlines
CREATE OR REPLACE TEMPORARY TABLE witnessed ENGINE = Memory AS
SELECT
    e.message AS message, e.receiver AS receiver, e.owed AS owed, e.held AS held, e.declared AS declared, e.maybe_owed AS maybe_owed,
    e.not_published AS not_published, e.traced AS traced, e.expires_at AS expires_at, e.handed_at AS handed_at,
    h.p AS now_at, h.p_there AS there_at, h.gone_at AS gone_at, h.begins AS begins, h.fed AS fed, h.moves AS moves,
    -- Of a message that its sender does not tell of, consumers tell under another name.
    if(e.sender_seen AND e.producer = '', 0, h.tells) AS tells,
    b.at > 0 AND b.state != 'gone' AS known_before, b.first AS counted_before,
    if(known_before, (b.published, b.handed, b.acked, greatest(b.waiting, 0) + greatest(b.in_hand, 0)), (0, 0, 0, 0)) AS before,
    a.published AS published_then,
    s.kind AS sighted, s.at AS sighted_at,
    if(d.seconds > 0, d.seconds, {deadline:Float64}) AS allowed_s,
    -- Where Kafka's group stands: the first commit past this message, and the latest.
    c.offset AS next_commit, c.at AS next_commit_at, c.last_at AS next_commit_last_at,
    l.offset AS last_commit, l.at AS last_commit_at,
    w.watched AS watched, w.ok_at AS looked_at, w.trouble AS watch_trouble, w.blind AS blind, w.blind_to_streams AS blind_to_streams
FROM pairs AS e
LEFT JOIN held AS h
    ON e.system = h.system AND e.receiver = h.receiver AND e.partition = h.partition AND if(e.system = 'kafka', e.destination, '') = h.destination
ASOF LEFT JOIN
(
    SELECT receiver, at, first, published, handed, acked, waiting, in_hand, state FROM looks WHERE system = 'rabbitmq'
) AS b ON e.receiver = b.receiver AND e.sent_at >= b.at
ASOF LEFT JOIN
(
    SELECT receiver, at, published FROM looks WHERE system = 'rabbitmq'
) AS a ON e.receiver = a.receiver AND addSeconds(greatest(e.sent_at, e.confirmed_at), 7) >= a.at
ASOF LEFT JOIN committed AS c
    ON e.destination = c.destination AND e.receiver = c.receiver AND e.partition = c.partition AND e.offset < c.offset
LEFT JOIN
(
    SELECT destination, receiver, partition, argMax(n.offset, n.last_at) AS offset, max(n.last_at) AS at
    FROM committed AS n
    GROUP BY destination, receiver, partition
) AS l ON e.destination = l.destination AND e.receiver = l.receiver AND e.partition = l.partition
LEFT JOIN
(
    SELECT system, receiver, partition, offset, any(kind) AS kind, min(g.at) AS at
    FROM sightings AS g
    WHERE receiver IN (SELECT receiver FROM pairs)
    GROUP BY system, receiver, partition, offset
) AS s ON e.system = s.system AND e.receiver = s.receiver AND e.offset = s.offset
    AND if(e.system = 'kafka', concat(e.destination, ':', e.partition), e.partition) = s.partition
LEFT JOIN
(
    SELECT system, 1 AS watched, maxIf(t.at, ok) AS ok_at, argMax(t.trouble, t.at) AS trouble, argMaxIf(t.trouble, t.at, ok) AS blind,
        -- Consumers of streams are seen without the endpoint that shows NATS's plain subscribers.
        if(startsWith(blind, 'plain subscribers'), '', blind) AS blind_to_streams
    FROM watches AS t
    WHERE at >= {now:DateTime64(6)} - INTERVAL 1 DAY AND day >= toDate({now:DateTime64(6)}) - 1
    GROUP BY system
) AS w ON e.system = w.system
LEFT JOIN deadlines AS d ON e.system = d.system AND e.destination = d.destination AND e.receiver = d.receiver
