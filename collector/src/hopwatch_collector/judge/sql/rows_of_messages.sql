-- All rows of `deliveries` about the messages picked, those that were taken back too: which of them count, ledger.py says. (To have the
-- engine merge them, or sum their signs first, takes longer.)
SELECT
    tenant, day, message, receiver, version, minute, verdict, cause, detail, open, since, due_at, next_at, witnesses,
    system, broker, destination, producer, consumer, trace_id, flow, keys, partition, offset, pending, conversation, attempts,
    call, declared, outcome, publish_reason, sender_seen, failed, first_at, sent_at, received_at, sender_off_us,
    receiver_off_us, backwards, received_in, settled_in, worked_for, sign
FROM deliveries
WHERE message IN (SELECT message FROM picked)
