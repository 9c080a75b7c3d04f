-- Tell the facts of strangers again under the message id, and mark those under the old key as moved: one insert, so that
-- nobody sees a fact twice or not at all. The fold makes it harmless to do so again.
-- Parameters: messages and known_as (hex, side by side).
INSERT INTO ledger
    (day, message, receiver, attempt, hop, started_at, ended_at, call, system, broker, destination, service, peer, trace_id, flow, outcome, settle,
    failed, dead, error, reason, partition, offset, pending, conversation, keys, moved, resource, seen_at, tenant, unnamed)
SELECT
    day,
    if(old, message, toFixedString(unhex(transform(hex(message), {messages:Array(String)}, {known_as:Array(String)}, '')), 16)) AS message,
    receiver, attempt, hop, started_at, ended_at, call, system, broker, destination, service, peer, trace_id, flow, outcome, settle,
    failed, dead, error, reason, partition, offset, pending, conversation, keys, old AS moved, resource, seen_at, tenant, unnamed
FROM ledger
ARRAY JOIN [0, 1] AS old
WHERE ledger.message IN (SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16)) AND receiver != ''
