-- Strangers (facts told under the context that sent the message) whose sender has been seen. Parameters: since, top.
-- `known_as`: the sender's message id, or the stranger's own key where the sender has none either.
WITH
due AS
(
    SELECT message, any(s.day) AS day, any(s.origin_trace) AS origin_trace, any(s.origin_span) AS origin_span
    FROM strangers AS s
    WHERE s.day >= today() - 2
    GROUP BY message
    HAVING maxIf(s.seen_at, known_as = toFixedString('', 16)) >= greatest({since:DateTime64(6)}, maxIf(s.seen_at, known_as != toFixedString('', 16)))
    LIMIT {top:UInt32}
)
SELECT d.day AS day, hex(d.message) AS message, hex(d.origin_trace) AS origin_trace, hex(d.origin_span) AS origin_span,
    hex(if(p.own_id, p.message, d.message)) AS known_as
FROM due AS d
INNER JOIN
(
    SELECT trace_id, span_id, max(s.own_id) AS own_id, max(s.message) AS message
    FROM spans AS s
    WHERE s.trace_id IN (SELECT origin_trace FROM due) AND s.role IN ('send', 'call')
    GROUP BY trace_id, span_id
) AS p ON d.origin_trace = p.trace_id AND d.origin_span = p.span_id
