-- The spans with an attribute, by the text index (exporter's tables since ClickHouse 26.2). Parameters: since, until, key, value.
SELECT
    Timestamp, TraceId, SpanId, ParentSpanId, SpanName, SpanKind, ServiceName, Duration, StatusCode, StatusMessage,
    SpanAttributes, ResourceAttributes, Events.Name, Links.TraceId
FROM otel_traces
WHERE Timestamp >= {since:DateTime64(9)} AND Timestamp <= {until:DateTime64(9)} AND has(SpanAttributeItems, concat({key:String}, '=', {value:String}))
LIMIT 1000
