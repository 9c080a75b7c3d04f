-- Since when, and until when, RabbitMQ's firehose was heard without a gap. Times in µs. Parameter: since (s).
SELECT
    (SELECT toUnixTimestamp64Micro(max(at)) FROM told WHERE message = toFixedString('', 16)) AS from_at,
    -- Where it is heard at several places, as far as at all of them.
    (SELECT toUnixTimestamp64Micro(min(last_at)) FROM (
        SELECT max(w.at) AS last_at FROM watches AS w WHERE system = 'rabbitmq-firehose' AND ok
            AND w.at >= toDateTime64({since:Int64}, 6, 'UTC') AND day >= toDate(toDateTime({since:Int64}, 'UTC'))
        GROUP BY broker)) AS until_at
