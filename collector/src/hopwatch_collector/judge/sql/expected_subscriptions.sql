-- Who is declared to be owed what, and from when until when. Times in µs.
SELECT system, receiver, pattern, toUnixTimestamp64Micro(from_at) AS from_at, toUnixTimestamp64Micro(until_at) AS until_at, prefix, expression
FROM declared FINAL
