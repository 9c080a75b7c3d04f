-- Note whom the facts were given to; last, so that a crash before it leads to another try.
-- Parameters: now (when they were read), messages, known_as (hex, side by side).
INSERT INTO strangers (day, message, known_as, seen_at)
SELECT toDate({now:DateTime64(6)}), toFixedString(unhex(s.1), 16), toFixedString(unhex(s.2), 16), {now:DateTime64(6)}
FROM (SELECT arrayJoin(arrayZip({messages:Array(String)}, {known_as:Array(String)})) AS s)
