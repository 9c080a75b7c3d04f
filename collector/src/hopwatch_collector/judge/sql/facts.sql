-- The ledger's rows of the messages picked. Of one hop there may be several, which facts.py folds: to do so here takes five times as
-- long. Times in µs.
SELECT
    message, receiver, attempt, hop, resource, started_at, ended_at, call, system, broker, destination, service, peer, trace_id, flow,
    CAST(outcome, 'Int8') AS outcome, CAST(settle, 'Int8') AS settle,
    failed, dead, error, reason, partition, offset, pending, conversation,
    CAST(keys, 'Array(Tuple(name String, value String))') AS keys,
    unnamed, day, moved
FROM ledger
WHERE message IN (SELECT message FROM picked)
