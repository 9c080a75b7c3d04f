-- Tell all there is of some messages again under another key or id, and mark what is told under theirs as moved: one insert, so that
-- nobody sees a fact twice or not at all. The fold makes it harmless to do so again.
-- Parameters: messages and known_as (hex, side by side).
INSERT INTO ledger
SELECT l.* REPLACE (
    if(c.old, l.message, toFixedString(unhex(transform(hex(l.message), {messages:Array(String)}, {known_as:Array(String)}, '')), 16)) AS message,
    toUInt8(c.old) AS moved)
FROM ledger AS l
CROSS JOIN (SELECT arrayJoin([0, 1]) AS old) AS c
WHERE l.message IN (SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16))
