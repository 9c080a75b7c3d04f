-- The senders of facts told under some keys. Parameters: messages (hex).
WITH wanted AS (SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16) AS key)
-- include: senders_by_key
