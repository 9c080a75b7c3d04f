-- Since when the latest facts of the window were, so many of them. Parameters: since, until, top.
SELECT started_at AS since
FROM ledger
WHERE started_at >= {since:DateTime64(6)} AND started_at <= {until:DateTime64(6)}
    AND day BETWEEN toDate({since:DateTime64(6)}) AND toDate({until:DateTime64(6)}) + 1
ORDER BY started_at DESC
LIMIT 1 OFFSET {top:UInt32}
