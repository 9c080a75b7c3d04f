-- What brokers say waits, per receiver and place, now and some minutes ago. Parameters: now; back (seconds).
-- `following`: the next offset to be handed out.
SELECT
    system, broker, destination, receiver, partition,
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
GROUP BY system, broker, destination, receiver, partition, begin
-- What cannot be seen any more is not told as if it could.
HAVING last.5 NOT IN ('gone', 'hidden') AND last.1 >= 0
