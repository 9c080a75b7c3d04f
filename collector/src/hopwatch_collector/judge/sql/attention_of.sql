-- Messages in `attention` for a reason that stands for `{{where}}`. Parameters: its own, and top.
SELECT DISTINCT message
FROM
(
    SELECT message
    FROM attention
    WHERE {{where}}
    GROUP BY message, receiver, version
    HAVING sum(sign) > 0
    LIMIT {top:UInt32}
)
