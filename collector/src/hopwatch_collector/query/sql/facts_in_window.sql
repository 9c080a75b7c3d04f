-- How many facts lie in the window: what judging it would cost. Parameters: since, until.
SELECT count() AS facts
FROM ledger
WHERE started_at >= {since:DateTime64(6)} AND started_at <= {until:DateTime64(6)}
    AND day BETWEEN toDate({since:DateTime64(6)}) AND toDate({until:DateTime64(6)}) + 1
