-- Stage: the messages with a fact in the window, into `picked`. Parameters: since, until.
CREATE OR REPLACE TEMPORARY TABLE picked ENGINE = Memory AS
SELECT DISTINCT message
FROM ledger
WHERE started_at >= {since:DateTime64(6)} AND started_at <= {until:DateTime64(6)}
    AND day BETWEEN toDate({since:DateTime64(6)}) AND toDate({until:DateTime64(6)}) + 1
