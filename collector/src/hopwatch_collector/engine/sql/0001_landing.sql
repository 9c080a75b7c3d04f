-- Where OTLP lands: one row per insert, holding a whole batch of concatenated ExportTraceServiceRequests.
-- Nothing is kept here (ENGINE = Null); the views below turn each batch into rows. Shapes follow otlp.proto.
-- `value` and `inner` say which field of the protobuf oneof was set, so that 0, false and '' are told from absent.

CREATE TABLE IF NOT EXISTS otlp
(
    resource_spans Array(Tuple(
        resource Tuple(attributes Array(Tuple(key String, value {{AnyValue}}))),
        scope_spans Array(Tuple(
            scope Tuple(name String, version String),
            spans Array(Tuple(
                trace_id String,
                span_id String,
                parent_span_id String,
                name String,
                kind Int32,
                start_time_unix_nano UInt64,
                end_time_unix_nano UInt64,
                attributes Array(Tuple(key String, value {{AnyValue}})),
                events Array(Tuple(
                    time_unix_nano UInt64,
                    name String,
                    attributes Array(Tuple(key String, value {{AnyValue}})))),
                links Array(Tuple(
                    trace_id String,
                    span_id String,
                    attributes Array(Tuple(key String, value {{AnyValue}})))),
                status Tuple(message String, code Int32),
                flags UInt32))))))
)
ENGINE = Null
