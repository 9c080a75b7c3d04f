-- Who reached whom through what, in the window. Parameters besides those of the stages: undelivered (the verdicts that count so), top.
-- stage: picked_in_window
-- stage: verdicts
SELECT
    producer, system, destination, receiver, consumer,
    count() AS deliveries,
    countIf(has({undelivered:Array(String)}, verdict)) AS undelivered,
    countIf(failed) AS errors,
    -- Where clocks are off by what cannot be measured, a receipt may seem to come first: that is no latency.
    countIf(sender_seen AND received_at > 0 AND received_at < sent_at) AS backwards,
    countIf(sender_seen AND received_at >= sent_at) AS timed,
    quantilesIf(0.5, 0.99)(dateDiff('microsecond', sent_at, received_at), sender_seen AND received_at >= sent_at) AS latency_us
FROM deliveries
GROUP BY producer, system, destination, receiver, consumer
ORDER BY deliveries DESC, producer, destination, receiver
LIMIT {top:UInt32}
