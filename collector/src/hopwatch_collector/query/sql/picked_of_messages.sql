-- Stage: the messages named, into `picked`. Parameters: messages (hex).
CREATE OR REPLACE TEMPORARY TABLE picked ENGINE = Memory AS
SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16) AS message
