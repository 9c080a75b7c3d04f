-- The least that hops between two hosts seemed to take around a moment. Parameters: at; back (seconds to both sides); top.
-- Clocks drift: what was seen earlier or later says less by twice 15 µs/s (RFC 5905, PHI) and so much time; a minute's rows came
-- in during it and tell of what happened up to a minute before.
-- A span with a made-up time must not move a clock: the least two of thirty or more are left out, and before there are so many the least
-- one if it says that the one clock is ahead and lies twenty minutes from all others. One with nothing beside it yet is believed up to
-- two hours. Whatever is left out, what remains is a bound all the same.
SELECT
    from_host, to_host,
    sum(p.hops) AS hops,
    min(p.minute) AS since,
    arraySort(groupArrayArray(arrayMap(us -> us + 30 * (abs(dateDiff('second', p.minute, {at:DateTime64(6)})) + 60), p.least))) AS all_least,
    all_least[multiIf(sum(p.hops) >= 30 AND length(all_least) >= 3, 3,
        length(all_least) >= 2 AND all_least[1] < 0 AND all_least[2] - all_least[1] > 1200000000, 2, 1)] AS seemed_us
FROM
(
    SELECT minute, from_host, to_host, argMax(c.hops, c.written_at) AS hops, argMax(c.least, c.written_at) AS least
    FROM clock_pairs AS c
    WHERE minute >= {at:DateTime64(6)} - toIntervalSecond({back:UInt32}) AND minute <= {at:DateTime64(6)} + toIntervalSecond({back:UInt32})
        AND day BETWEEN toDate({at:DateTime64(6)}) - 1 AND toDate({at:DateTime64(6)}) + 1
    GROUP BY minute, from_host, to_host
) AS p
GROUP BY from_host, to_host
HAVING length(all_least) > 1 OR seemed_us > -7200000000
ORDER BY hops DESC, from_host, to_host
LIMIT {top:UInt32}
