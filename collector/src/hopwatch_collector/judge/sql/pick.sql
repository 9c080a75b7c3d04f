-- The messages to judge, for the statements after this one.
CREATE TEMPORARY TABLE IF NOT EXISTS picked (message FixedString(16)) ENGINE = Memory
