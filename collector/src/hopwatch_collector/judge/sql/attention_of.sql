-- Messages in `attention` for a reason that stands for `{{where}}`, in the order of their ids, from behind one on.
-- Parameters: its own; after (hex), top.
SELECT message
FROM
(
    SELECT message
    FROM attention
    WHERE {{where}} AND message > toFixedString(unhex({after:String}), 16)
    GROUP BY message, receiver, version
    HAVING sum(sign) > 0
)
GROUP BY message
ORDER BY message
LIMIT {top:UInt32}
