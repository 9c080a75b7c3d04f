-- Some of the messages that are open and whose moment has not come, others each time. Parameters: now (µs), salt, top.
SELECT message
FROM attention
WHERE open AND next_at > fromUnixTimestamp64Micro({now:Int64}, 'UTC') AND sipHash64(message, {salt:UInt32}) % 16 = 0
GROUP BY message, receiver, version
HAVING sum(sign) > 0
LIMIT {top:UInt32}
