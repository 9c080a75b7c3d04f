-- Tell the facts of strangers again under the message id. The fold makes it harmless to do so twice.
-- Parameters: messages and known_as (hex, side by side).
INSERT INTO ledger
SELECT
    day,
    toFixedString(unhex(transform(hex(message), {messages:Array(String)}, {known_as:Array(String)}, '')), 16) AS message,
    receiver, attempt, hop, started_at, ended_at, call, system, destination, service, peer, trace_id, flow, outcome, settle,
    failed, dead, error, reason, partition, offset, pending, conversation, keys, 0 AS moved
FROM ledger
WHERE ledger.message IN (SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16)) AND receiver != ''
