-- The spans with an attribute, as the exporter's readme asks for them. Parameters: since, until, key, value.
SELECT
    Timestamp, TraceId, SpanId, ParentSpanId, SpanName, SpanKind, ServiceName, Duration, StatusCode, StatusMessage,
    SpanAttributes, ResourceAttributes, Events.Name, Links.TraceId
FROM otel_traces
WHERE Timestamp >= {since:DateTime64(9)} AND Timestamp <= {until:DateTime64(9)} AND SpanAttributes[{key:String}] = {value:String}
LIMIT 1000
