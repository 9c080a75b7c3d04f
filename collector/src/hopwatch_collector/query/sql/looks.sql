-- Stage: how it stood with the receivers in `pairs` whenever a broker was looked at, from an hour before the first of the
-- messages on, into `looks`.
-- from: positions
CREATE OR REPLACE TEMPORARY TABLE looks ENGINE = Memory AS
WITH (SELECT min(first_at) FROM pairs) - INTERVAL 1 HOUR AS from_at
SELECT
    system, destination, receiver, partition, at, first, next, done, waiting, in_hand, published, handed, acked, uncounted, heard_from,
    ttl_ms, max_length, dead_letters, state
FROM positions
WHERE receiver IN (SELECT receiver FROM pairs) AND at >= from_at AND day >= toDate(from_at)
