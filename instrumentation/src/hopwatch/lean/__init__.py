"""A TracerProvider that costs a service little: plain spans, encoded by hand, sent by one thread of its own.

It stands behind the OpenTelemetry API where the application has set no provider, and honours what the SDK's own
pipeline does: samplers, limits, resources and the `OTEL_*` variables.
"""
