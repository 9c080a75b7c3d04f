-- When the next moment comes, in µs; that of a row that was taken back may be among them. Parameter: now (µs).
SELECT toUnixTimestamp64Micro(min(next_at)) AS at
FROM attention
WHERE next_at > fromUnixTimestamp64Micro({now:Int64}, 'UTC')
