    -- Spans later than minutes can be counted up to are looked at one by one.
    (toStartOfMinute(started_at) IN (SELECT toDateTime(minute * 60, 'UTC') FROM span_minutes WHERE hash = xxHash32(toFixedString(unhex({flow:String}), 16)))
        OR started_at >= toDateTime64('2106-02-07 00:00:00', 9, 'UTC'))
