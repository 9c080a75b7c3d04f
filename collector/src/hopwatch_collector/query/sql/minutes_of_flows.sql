    (toStartOfMinute(started_at) IN
        (SELECT toDateTime(minute * 60, 'UTC') FROM span_minutes
        WHERE hash IN (SELECT xxHash32(toFixedString(unhex(arrayJoin({flows:Array(String)})), 16))))
        OR started_at >= toDateTime64('2106-02-07 00:00:00', 9, 'UTC'))
