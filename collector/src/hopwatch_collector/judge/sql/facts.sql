-- The facts of the messages picked, folded: parts that have not been merged yet still hold several rows per key. Times in µs.
SELECT
    message, receiver, attempt, hop,
    max(l.resource) AS resource,
    toUnixTimestamp64Micro(min(l.started_at)) AS started_at,
    toUnixTimestamp64Micro(max(l.ended_at)) AS ended_at,
    max(l.call) > 0 AS call,
    max(l.system) AS system,
    max(l.broker) AS broker,
    max(l.destination) AS destination,
    max(l.service) AS service,
    max(l.peer) AS peer,
    max(l.trace_id) AS trace_id,
    max(l.flow) AS flow,
    CAST(max(l.outcome), 'Int8') AS outcome,
    CAST(max(l.settle), 'Int8') AS settle,
    max(l.failed) > 0 AS failed,
    max(l.dead) > 0 AS dead,
    max(l.error) AS error,
    max(l.reason) AS reason,
    max(l.partition) AS partition,
    max(l.offset) AS offset,
    max(l.pending) AS pending,
    max(l.conversation) AS conversation,
    CAST(groupUniqArrayArray(l.keys), 'Array(Tuple(name String, value String))') AS keys,
    min(l.day) AS day
FROM ledger AS l
WHERE message IN (SELECT message FROM picked)
GROUP BY message, receiver, attempt, hop
HAVING max(l.moved) = 0
