-- Stage: what became of the messages named. Parameters besides those of verdicts.sql: messages (hex).
CREATE OR REPLACE TEMPORARY TABLE deliveries ENGINE = Memory AS
WITH
picked AS
(
    SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16) AS message
),
-- include: verdicts
SELECT * FROM deliveries
