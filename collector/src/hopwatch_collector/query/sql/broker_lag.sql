-- What brokers say waits, per receiver and place, now and some minutes ago. Parameters: now; back (seconds).
-- `not_before`: when, by our own clock, a log was last seen to end before what now waits in it; 1970: never.
WITH
told AS
(
    SELECT
        system, destination, receiver, partition,
        argMax((p.waiting, p.in_hand, p.consumers, p.oldest_at, p.state), p.at) AS last,
        argMax(greatest(p.next, p.first), p.at) AS following,
        -- The last row from before the stretch still held when it began; else the first one in it.
        if(countIf(at <= begin) > 0, argMaxIf(p.waiting, p.at, at <= begin), argMin(p.waiting, p.at)) AS waiting_before,
        greatest(begin, min(p.at)) AS before_at
    FROM
    (
        SELECT *, {now:DateTime64(6)} - toIntervalSecond({back:UInt32}) AS begin
        FROM receiver_states
        WHERE at >= {now:DateTime64(6)} - INTERVAL 1 HOUR AND day >= toDate({now:DateTime64(6)} - INTERVAL 1 HOUR)
    ) AS p
    GROUP BY system, destination, receiver, partition, begin
    -- What cannot be seen any more is not told as if it could.
    HAVING last.5 NOT IN ('gone', 'hidden') AND last.1 >= 0
),
-- A record's timestamp is its producer's. What waits was written after the last look at which the log ended before it; rows
-- are written on change only, so that any look before the next row saw the same.
grown AS
(
    SELECT g.system AS system, g.destination AS destination, g.receiver AS receiver, g.partition AS partition, greatest(g.short_at, w.at) AS not_before
    FROM
    (
        SELECT
            p.system AS system, p.destination AS destination, p.receiver AS receiver, p.partition AS partition,
            maxIf(p.at, p.end <= t.following) AS short_at, minIf(p.at, p.end > t.following) AS long_at
        FROM receiver_states AS p
        INNER JOIN told AS t ON p.system = t.system AND p.destination = t.destination AND p.receiver = t.receiver AND p.partition = t.partition
        WHERE p.system = 'kafka' AND p.at >= {now:DateTime64(6)} - INTERVAL 1 HOUR AND p.day >= toDate({now:DateTime64(6)} - INTERVAL 1 HOUR)
        GROUP BY p.system, p.destination, p.receiver, p.partition
        HAVING short_at > 0 AND long_at > short_at
    ) AS g
    ASOF LEFT JOIN (SELECT system, at FROM watches WHERE ok AND day >= toDate({now:DateTime64(6)} - INTERVAL 1 HOUR)) AS w
        ON g.system = w.system AND g.long_at > w.at
)
SELECT t.*, g.not_before AS not_before
FROM told AS t
LEFT JOIN grown AS g ON t.system = g.system AND t.destination = g.destination AND t.receiver = g.receiver AND t.partition = g.partition
