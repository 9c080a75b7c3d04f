-- How many facts came in lately. Parameters: since.
SELECT count() AS facts
FROM ledger
WHERE seen_at >= {since:DateTime64(6)} AND day >= toDate({since:DateTime64(6)}) - 1
