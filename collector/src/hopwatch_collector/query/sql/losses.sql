-- Spans that services lost before they could reach the collector, the latest first. Parameters: since (told then or later), top.
-- Each process counts from its beginning: what it had lost before `since` is taken off, and the processes are added up.
SELECT
    service,
    sumMap(map(reason, lost)) AS reasons,
    sum(lost) AS spans,
    min(p.first_at) AS first_at,
    max(p.last_at) AS last_at,
    uniqExact(instance) AS processes
FROM
(
    SELECT
        instance, reason,
        argMax(l.service, l.until) AS service,
        max(l.spans) - maxIf(l.spans, l.until < {since:DateTime64(6)}) AS lost,
        minIf(l.since, l.until >= {since:DateTime64(6)}) AS first_at,
        max(l.until) AS last_at
    FROM losses AS l
    GROUP BY instance, reason
    HAVING lost > 0
) AS p
GROUP BY service
ORDER BY last_at DESC, service
LIMIT {top:UInt32}
