-- Who reached whom, per minute in which the later end came in (clocks of senders may be off). Parameters: since (facts that
-- came in since then are looked at; the minute after it is the first to be summed up), now.
-- Straight from the ledger: whether a hop failed needs no verdict, and a verdict of everything would cost too much here.
WITH
sides AS
(
    SELECT
        message, receiver,
        min(l.seen_at) AS came_at, max(l.service) AS service, max(l.system) AS system, max(l.destination) AS destination,
        max(l.call) AS call, greatest(argMax(l.failed, (attempt, l.started_at)), max(l.dead)) AS failed
    FROM ledger AS l
    WHERE l.seen_at >= {since:DateTime64(6)} AND day BETWEEN toDate({since:DateTime64(6)}) - 1 AND toDate({now:DateTime64(6)}) + 1
    GROUP BY message, receiver
    HAVING max(l.moved) = 0
),
messages AS
(
    SELECT
        minIf(s.came_at, receiver = '') AS send_came_at,
        maxIf(s.service, receiver = '') AS client,
        maxIf(s.failed, receiver = '') AS refused,
        max(s.system) AS system,
        maxIf(s.destination, receiver = '') AS sender_says,
        maxIf(s.destination, receiver != '') AS receiver_says,
        -- The callee knows the route; of a broker's message the sender knows best where it sent it.
        if(max(s.call) OR sender_says = '', receiver_says, sender_says) AS destination,
        groupArrayIf((receiver, s.service, s.failed, s.came_at), receiver != '' AND s.service != '') AS ends
    FROM sides AS s
    GROUP BY message
    HAVING client != '' AND notEmpty(ends)
)
SELECT
    toDate(minute) AS day,
    toStartOfMinute(toDateTime(greatest(send_came_at, end.4), 'UTC')) AS minute,
    client, end.2 AS server, system, destination, end.1 AS receiver,
    count() AS requests,
    countIf(end.3 OR refused) AS failed,
    {now:DateTime64(6)} AS written_at
FROM messages
ARRAY JOIN ends AS end
WHERE minute > {since:DateTime64(6)}
GROUP BY minute, client, server, system, destination, receiver
