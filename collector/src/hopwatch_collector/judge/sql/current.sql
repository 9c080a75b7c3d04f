-- The deliveries of the messages picked, as they were last judged.
SELECT
    tenant, message, receiver, version, day, toInt64(toUnixTimestamp(minute)) AS minute, verdict, cause, detail, open, toUnixTimestamp64Micro(since) AS since,
    toUnixTimestamp64Micro(due_at) AS due_at, toUnixTimestamp64Micro(next_at) AS next_at, witnesses, system, broker, destination, producer, consumer, trace_id, flow, keys, partition, offset,
    pending, conversation, attempts, call, declared, outcome, publish_reason, sender_seen, failed,
    toUnixTimestamp64Micro(first_at) AS first_at, toUnixTimestamp64Micro(sent_at) AS sent_at,
    toUnixTimestamp64Micro(received_at) AS received_at, toUnixTimestamp64Micro(settled_at) AS settled_at,
    sender_off_us, receiver_off_us, backwards, received_in, settled_in, worked_for
FROM deliveries FINAL
WHERE message IN (SELECT message FROM picked) AND sign = 1
