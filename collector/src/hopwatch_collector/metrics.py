"""What the collector measures about itself; rendered at /metrics together with what the queries add."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_FSYNC_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_INSERT_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 30.0)


class Metrics:
    """One collector's counters and gauges, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "hopwatch_ingest_requests",
            "OTLP requests answered. outcome: accepted, partial, rejected (do not resend), retry.",
            ("protocol", "outcome"),
            registry=self.registry,
        )
        self.bytes = Counter(
            "hopwatch_ingest_bytes", "Bytes of OTLP protobuf journalled.", registry=self.registry
        )
        self.spans = Counter("hopwatch_ingest_spans", "Spans acknowledged.", registry=self.registry)
        self.refused = Counter(
            "hopwatch_ingest_refused",
            "Requests refused, by reason; `invalid_ids` counts single spans.",
            ("reason",),
            registry=self.registry,
        )
        self.journal_backlog = Gauge(
            "hopwatch_journal_backlog_bytes",
            "Bytes acknowledged and not yet in the engine.",
            registry=self.registry,
        )
        self.journal_disk = Gauge(
            "hopwatch_journal_disk_bytes", "Bytes the journal takes on disk.", registry=self.registry
        )
        self.journal_fsync = Histogram(
            "hopwatch_journal_fsync_seconds",
            "Time of one group write and fsync.",
            buckets=_FSYNC_S,
            registry=self.registry,
        )
        self.journal_damaged = Counter(
            "hopwatch_journal_damaged_bytes",
            "Bytes of the journal that failed their checksum and were stepped over.",
            registry=self.registry,
        )
        self.engine_insert = Histogram(
            "hopwatch_engine_insert_seconds",
            "Time of one insert through all views.",
            buckets=_INSERT_S,
            registry=self.registry,
        )
        self.engine_batches = Counter(
            "hopwatch_engine_batches", "Batches the engine took.", registry=self.registry
        )
        self.engine_spans = Counter("hopwatch_engine_spans", "Spans the engine took.", registry=self.registry)
        self.declarations_current = Gauge(
            "hopwatch_declarations_current",
            "Whether what the files of --config and --asyncapi said when last read is in force; 0: they could not be reread.",
            registry=self.registry,
        )
        self.declarations_current.set(1)
        self.witness_up = Gauge(
            "hopwatch_witness_up",
            "Whether a broker could be asked.",
            ("system", "broker"),
            registry=self.registry,
        )
        self.witness_looks = Counter(
            "hopwatch_witness_looks",
            "How often a broker was asked.",
            ("system", "broker", "outcome"),
            registry=self.registry,
        )
        self.witness_requests = Counter(
            "hopwatch_witness_requests",
            "Requests that asking took.",
            ("system", "broker"),
            registry=self.registry,
        )
        self.witness_seconds = Counter(
            "hopwatch_witness_seconds", "Time that asking took.", ("system", "broker"), registry=self.registry
        )
        self.engine_failures = Counter(
            "hopwatch_engine_failures",
            "Inserts that failed and are tried again, and upkeep rounds that failed.",
            ("kind",),
            registry=self.registry,
        )
        self.retention_held = Gauge(
            "hopwatch_retention_held_days",
            "Days older than the retention that are kept because they are more than may be dropped at once (--drop-days).",
            registry=self.registry,
        )
        self.judged = Counter("hopwatch_judge_messages", "Messages judged.", registry=self.registry)
        self.judge_rows = Counter(
            "hopwatch_judge_rows", "Rows of deliveries given or taken back.", registry=self.registry
        )
        self.mismatches = Counter(
            "hopwatch_verdict_mismatch",
            "Deliveries that came out otherwise when a sample was judged again though no news of them had been seen.",
            registry=self.registry,
        )
        self.quarantined = Counter(
            "hopwatch_engine_quarantined_spans",
            "Spans in requests the engine refuses, set aside in the quarantine directory.",
            registry=self.registry,
        )

    def refuse(self, protocol: str, reason: str, *, retry: bool) -> None:
        """Counts one request refused; `retry` tells whether the sender was asked to come again."""
        self.requests.labels(protocol, "retry" if retry else "rejected").inc()
        self.refused.labels(reason).inc()
