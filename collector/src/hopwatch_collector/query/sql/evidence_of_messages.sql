-- Stage: what services showed of the messages named. Parameters besides those of evidence.sql: messages (hex).
CREATE OR REPLACE TEMPORARY TABLE evidence ENGINE = Memory AS
WITH
picked AS
(
    SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16) AS message
),
-- include: evidence
SELECT * FROM evidence
