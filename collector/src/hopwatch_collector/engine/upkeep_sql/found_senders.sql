-- The senders of facts told in a stretch of time. Parameters: after, until (µs).
WITH wanted AS
(
    SELECT w.message AS key
    FROM senders_wanted AS w
    WHERE w.seen_at > fromUnixTimestamp64Micro({after:Int64}, 'UTC') AND w.seen_at <= fromUnixTimestamp64Micro({until:Int64}, 'UTC')
)
-- include: senders_by_key
