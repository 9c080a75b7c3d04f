-- Stage: what services showed of every message with a fact in the window. Parameters: those of evidence.sql.
CREATE OR REPLACE TEMPORARY TABLE evidence ENGINE = Memory AS
WITH
picked AS
(
    SELECT DISTINCT message
    FROM ledger
    WHERE started_at >= {since:DateTime64(6)} AND started_at <= {until:DateTime64(6)}
        AND day BETWEEN toDate({since:DateTime64(6)}) AND toDate({until:DateTime64(6)}) + 1
),
-- include: evidence
SELECT * FROM evidence
