    message, receiver, verdict, cause, detail, since, due_at, witnesses, system, broker, destination, producer, consumer,
    if(trace_id = toFixedString('', 16), flow, trace_id) AS trace_id, flow, keys, partition, offset, pending, conversation, attempts, call,
    declared, outcome, publish_reason, sender_seen, failed, first_at, sent_at, received_at, settled_at, sender_off_us, receiver_off_us
