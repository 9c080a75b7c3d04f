-- Spans taken, by service, name, kind and status, with how many fell within each bound (2, 4, 8 … ms, 16 s, more). Parameters: top.
SELECT
    service, name, kind, status,
    sum(ns) AS ns,
    sumForEach(arrayMap(b -> if(b = bucket, calls, 0), range(15))) AS buckets
FROM span_totals
GROUP BY service, name, kind, status
ORDER BY sum(calls) DESC, service, name, kind, status
LIMIT {top:UInt32}
