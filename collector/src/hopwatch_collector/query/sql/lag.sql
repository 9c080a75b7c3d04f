-- How far each receiver is behind. Parameters besides those of the stages: top.
-- Waiting: owed and not yet received, or given back, but not for later on purpose. In flight: received and not settled.
-- stage: picked_in_window
-- stage: verdicts
SELECT
    system, destination, receiver,
    countIf(verdict IN ('waiting', 'overdue') AND cause != 'waiting.delayed') AS waiting,
    countIf(verdict IN ('in_flight', 'stuck')) AS in_flight,
    minIf(since, verdict IN ('waiting', 'overdue') AND cause != 'waiting.delayed') AS oldest,
    max(received_at) AS last_received_at,
    -- What a client last said still waited; -1: none did.
    countIf(pending >= 0 AND attempts > 0) > 0 AS pending_said,
    if(pending_said, argMaxIf(pending, received_at, pending >= 0 AND attempts > 0), -1) AS last_pending,
    arrayMap(x -> lower(hex(x.2)), groupArraySortedIf(5)((since, flow), verdict IN ('waiting', 'overdue', 'in_flight', 'stuck'))) AS samples
FROM deliveries
WHERE receiver != '' AND NOT call
GROUP BY system, destination, receiver
ORDER BY waiting DESC, in_flight DESC, system, destination, receiver
LIMIT {top:UInt32}
