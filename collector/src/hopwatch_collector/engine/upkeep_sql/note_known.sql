-- Note whom the facts told up to a moment were given to; last, so that a crash before it leads to another try.
-- Parameters: upto (µs), messages, known_as (hex, side by side).
INSERT INTO strangers (day, message, known_as, seen_at)
SELECT
    toDate(fromUnixTimestamp64Micro({upto:Int64}, 'UTC')), toFixedString(unhex(s.1), 16), toFixedString(unhex(s.2), 16),
    fromUnixTimestamp64Micro({upto:Int64}, 'UTC')
FROM (SELECT arrayJoin(arrayZip({messages:Array(String)}, {known_as:Array(String)})) AS s)
