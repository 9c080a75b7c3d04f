-- What processes say they lost of what they told, and between when. Times in µs. Parameter: since (s).
SELECT resource, toUnixTimestamp64Micro(min(l.since)) AS since, toUnixTimestamp64Micro(max(l.until)) AS until
FROM losses AS l
WHERE day >= toDate(toDateTime({since:Int64}, 'UTC')) AND l.until >= toDateTime64({since:Int64}, 6, 'UTC')
GROUP BY resource, minute
