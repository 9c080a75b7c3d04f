-- Stage: the messages with a fact in the window, into `picked`.
-- Parameters: since, until; clock_processes, clock_us and clock_slack (whose clocks are off, by how much, the most seconds of them).
CREATE OR REPLACE TEMPORARY TABLE picked ENGINE = Memory AS
SELECT DISTINCT message
FROM ledger
WHERE started_at >= {since:DateTime64(6)} - toIntervalSecond({clock_slack:UInt32})
    AND started_at <= {until:DateTime64(6)} + toIntervalSecond({clock_slack:UInt32})
    AND started_at - toIntervalMicrosecond(transform(resource, {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0)))
        BETWEEN {since:DateTime64(6)} AND {until:DateTime64(6)}
    AND day BETWEEN toDate({since:DateTime64(6)} - toIntervalSecond({clock_slack:UInt32}))
        AND toDate({until:DateTime64(6)} + toIntervalSecond({clock_slack:UInt32})) + 1
