-- Note who the strangers are; last, so that a crash before it leads to another try.
-- Parameters: now (when the facts moved were read), days, messages, traces, spans, known_as (hex, side by side).
INSERT INTO strangers (day, message, origin_trace, origin_span, known_as, seen_at)
SELECT
    toDate(s.1), toFixedString(unhex(s.2), 16), toFixedString(unhex(s.3), 16), toFixedString(unhex(s.4), 8), toFixedString(unhex(s.5), 16),
    {now:DateTime64(6)}
FROM
(
    SELECT arrayJoin(arrayZip({days:Array(String)}, {messages:Array(String)}, {traces:Array(String)}, {spans:Array(String)}, {known_as:Array(String)})) AS s
)
