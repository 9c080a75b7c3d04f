-- Since when, and until when, RabbitMQ's firehose was heard without a gap. Times in µs. Parameter: since (s).
SELECT
    (SELECT toUnixTimestamp64Micro(max(at)) FROM told WHERE message = toFixedString('', 16)) AS from_at,
    (SELECT toUnixTimestamp64Micro(max(at)) FROM watches WHERE system = 'rabbitmq-firehose' AND ok
        AND at >= toDateTime64({since:Int64}, 6, 'UTC') AND day >= toDate(toDateTime({since:Int64}, 'UTC'))) AS until_at
