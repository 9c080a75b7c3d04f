-- The spans of a trace, as the exporter's readme and Grafana's data source ask for them. Parameter: trace.
WITH
    (SELECT min(Start) FROM otel_traces_trace_id_ts WHERE TraceId = {trace:String}) AS start,
    (SELECT max(End) + 1 FROM otel_traces_trace_id_ts WHERE TraceId = {trace:String}) AS end
SELECT
    Timestamp, TraceId, SpanId, ParentSpanId, SpanName, SpanKind, ServiceName, Duration, StatusCode, StatusMessage,
    SpanAttributes, ResourceAttributes, Events.Name, Links.TraceId
FROM otel_traces
WHERE TraceId = {trace:String} AND Timestamp >= start AND Timestamp <= end
LIMIT 1000
