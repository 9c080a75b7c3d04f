-- What hops from one host to another seemed to take, per minute in which the later half of them came in.
-- Parameters: now; since (the first minute to sum up); collector (the collector's host); nth (one message in so many is looked at).
-- Only what causality vouches for (the rest is in the collector's README):
--   a message is received after it was sent; a receiver of another instrumentation may have begun to wait for it before,
--   but ended after (its "receive" spans may cover a poll);
--   a call is answered after the callee began on it (its span may well end after the caller has the answer; a report that
--   it is still open tells a later beginning, so only ended ones count);
--   a span is told after it began.
INSERT INTO clock_pairs
WITH
told AS
(
    SELECT
        message, receiver, attempt, hop,
        min(l.started_at) AS started_at, max(l.ended_at) AS ended_at, max(l.call) AS call, max(l.outcome) AS outcome, toString(max(l.settle)) AS settle,
        max(l.resource) AS resource, min(l.seen_at) AS seen_at
    FROM ledger AS l
    -- The other half of what came in since then may have come in a little before.
    WHERE l.seen_at >= {since:DateTime64(6)} - INTERVAL 2 MINUTE
        AND day BETWEEN toDate({since:DateTime64(6)}) - 1 AND toDate({now:DateTime64(6)}) + 1
        AND sipHash64(message) % {nth:UInt32} = 0
    GROUP BY message, receiver, attempt, hop
    HAVING max(l.moved) = 0 AND resource != 0
),
ends AS
(
    SELECT
        anyIf((resource, started_at, seen_at, if(call AND outcome = 'confirmed', ended_at, toDateTime64(0, 6, 'UTC'))), receiver = '') AS s,
        groupArrayIf((resource, if(call OR hop != toFixedString('', 8), started_at, ended_at), seen_at, call AND ended_at > 0 AND settle != 'none'), receiver != '' AND attempt > 0) AS received
    FROM told
    GROUP BY message
    HAVING countIf(receiver = '') > 0 AND notEmpty(received)
),
crossed AS
(
    SELECT s, arrayJoin(received) AS r, greatest(s.3, r.3) AS came_at
    FROM ends
),
seemed AS
(
    SELECT s.1 AS from_resource, r.1 AS to_resource, came_at, s.2 AS began, r.2 AS ended, dateDiff('microsecond', s.2, r.2) AS us FROM crossed WHERE r.2 > 0
    UNION ALL
    SELECT r.1, s.1, came_at, r.2, s.4, dateDiff('microsecond', r.2, s.4) FROM crossed WHERE r.4 AND s.4 > 0
    UNION ALL
    SELECT resource, 0, seen_at, started_at, started_at, dateDiff('microsecond', started_at, toDateTime64(seen_at, 6, 'UTC')) FROM told
    UNION ALL
    SELECT resource, 0, seen_at, first_at, first_at, dateDiff('microsecond', first_at, toDateTime64(seen_at, 6, 'UTC'))
    FROM subscriptions
    WHERE seen_at >= {since:DateTime64(6)} AND day >= toDate({since:DateTime64(6)}) - 1 AND first_at < toDateTime64('2299-01-01 00:00:00', 6, 'UTC')
),
-- One moment that was told is one witness, whatever hops begin or end at it: a made-up one is not many.
beginnings AS
(
    SELECT from_resource, to_resource, toStartOfMinute(s.came_at) AS minute, argMin(ended, s.us) AS ended, min(s.us) AS us
    FROM seemed AS s
    WHERE s.came_at >= {since:DateTime64(6)}
    GROUP BY from_resource, to_resource, minute, began
),
hops AS
(
    SELECT from_resource, to_resource, minute, min(b.us) AS us
    FROM beginnings AS b
    GROUP BY from_resource, to_resource, minute, ended
)
SELECT
    toDate(minute) AS day, minute, f.host AS from_host, if(to_resource = 0, {collector:String}, t.host) AS to_host,
    count() AS hops, groupArraySorted(3)(us) AS least, {now:DateTime64(6)} AS written_at
FROM hops
INNER JOIN hosts AS f ON from_resource = f.resource
LEFT JOIN hosts AS t ON to_resource = t.resource
WHERE from_host != to_host AND to_host != ''
GROUP BY minute, from_host, to_host
LIMIT 10000
