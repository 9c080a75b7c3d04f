-- The rows of `deliveries` that were ever given for the messages picked; which of them count, current.sql says.
SELECT
    tenant, message, receiver, version, fingerprint, day, toInt64(toUnixTimestamp(d.minute)) AS minute, verdict, cause, detail, open, toUnixTimestamp64Micro(d.since) AS since,
    toUnixTimestamp64Micro(d.due_at) AS due_at, toUnixTimestamp64Micro(d.next_at) AS next_at, witnesses, system, broker, destination, producer, consumer, trace_id, flow, keys, partition, offset,
    pending, conversation, attempts, call, declared, outcome, publish_reason, sender_seen, failed,
    toUnixTimestamp64Micro(d.first_at) AS first_at, toUnixTimestamp64Micro(d.sent_at) AS sent_at,
    toUnixTimestamp64Micro(d.received_at) AS received_at, toUnixTimestamp64Micro(d.settled_at) AS settled_at,
    sender_off_us, receiver_off_us, backwards, received_in, settled_in, worked_for
FROM deliveries AS d
WHERE message IN (SELECT message FROM picked) AND sign = 1
