-- The spans in which any attribute has a value. Parameters: since, until, value.
SELECT
    Timestamp, TraceId, SpanId, ParentSpanId, SpanName, SpanKind, ServiceName, Duration, StatusCode, StatusMessage,
    SpanAttributes, ResourceAttributes, Events.Name, Links.TraceId
FROM otel_traces
WHERE Timestamp >= {since:DateTime64(9)} AND Timestamp <= {until:DateTime64(9)} AND has(mapValues(SpanAttributes), {value:String})
LIMIT 1000
