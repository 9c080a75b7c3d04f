-- Messages whose moment has come: time alone may have changed their verdict. Parameters: now (µs), top.
SELECT message
FROM
(
    SELECT message
    FROM attention
    WHERE next_at <= fromUnixTimestamp64Micro({now:Int64}, 'UTC')
    GROUP BY message, receiver, version
    HAVING sum(sign) > 0
)
GROUP BY message
LIMIT {top:UInt32}
