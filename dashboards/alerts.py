"""The alert rules, for Prometheus."""

from dataclasses import dataclass
from typing import Any

from dashboards.board import RUNBOOK_PANEL, UID
from hopwatch_collector.api.models import UNDELIVERED, Verdict

BACKLOG_BYTES = 256 * 1024 * 1024
LAG_S = 60
CLOCK_S = 1
JOB = "hopwatch"
"""Name of the scrape job in prometheus.yml."""

# These have alerts of their own, or say too little to wake a person.
_ELSEWHERE = {Verdict.STUCK, Verdict.OVERDUE, Verdict.UNKNOWN}
_MISSED = "|".join(sorted(UNDELIVERED - _ELSEWHERE))


_LOST = "hopwatch_service_spans_lost_total"


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule: what must hold for how long, how bad that is, and a sentence about it."""

    name: str
    expr: str
    lasting: str
    severity: str
    summary: str
    description: str


ALERTS = (
    Alert(
        "HopwatchUndelivered",
        f'max by (verdict, destination, receiver) (hopwatch_deliveries{{verdict=~"{_MISSED}"}}) > 0',
        "1m",
        "warning",
        "{{ $value }} deliveries on {{ $labels.destination }} are {{ $labels.verdict }}",
        "In the last hour {{ $value }} messages sent to {{ $labels.destination }} were not delivered to "
        '"{{ $labels.receiver }}": {{ $labels.verdict }}.',
    ),
    Alert(
        "HopwatchStuck",
        'max by (destination, receiver) (hopwatch_deliveries{verdict="stuck"}) > 0',
        "1m",
        "warning",
        "{{ $labels.receiver }} holds {{ $value }} messages past their deadline",
        "{{ $labels.receiver }} received {{ $value }} messages from {{ $labels.destination }} and neither settled nor "
        "failed them within the deadline.",
    ),
    Alert(
        "HopwatchLag",
        f"max by (system, destination, receiver) (hopwatch_lag_seconds) > {LAG_S}",
        "2m",
        "warning",
        "{{ $labels.receiver }} is {{ $value | humanizeDuration }} behind on {{ $labels.destination }}",
        "The oldest message that {{ $labels.receiver }} is owed from {{ $labels.destination }} has waited "
        "{{ $value | humanizeDuration }}.",
    ),
    Alert(
        "HopwatchSpansLost",
        # Not `increase`: a series begins with its first losses, and these would not count.
        f"max by (service, reason) ({_LOST} - ({_LOST} offset 15m or {_LOST} * 0)) > 0",
        "0m",
        "warning",
        "{{ $labels.service }} lost spans on their way to the collector: {{ $labels.reason }}",
        'In the last 15 minutes {{ $labels.service }} told that it lost {{ printf "%.0f" $value }} spans '
        '("{{ $labels.reason }}"): its part of the ledger has gaps.',
    ),
    Alert(
        "HopwatchClockOff",
        f"max by (host) (abs(hopwatch_clock_corrected_seconds)) > {CLOCK_S}",
        "5m",
        "warning",
        "The clock of {{ $labels.host }} is {{ $value | humanizeDuration }} off",
        "Hops show that the clock of {{ $labels.host }} is {{ $value | humanizeDuration }} off the collector's. Verdicts and "
        "latencies are corrected for it; other tools' are not.",
    ),
    Alert(
        "HopwatchCollectorDown",
        f'up{{job="{JOB}"}} == 0 or absent(up{{job="{JOB}"}})',
        "1m",
        "critical",
        "The hopwatch collector {{ $labels.instance }} does not answer",
        "Prometheus cannot scrape the collector. Services go on unharmed; their spans are dropped once their "
        "buffers are full.",
    ),
    Alert(
        "HopwatchIngestRefusing",
        "sum by (instance, reason) (rate(hopwatch_ingest_refused_total[5m])) > 0",
        "2m",
        "warning",
        "The collector refuses requests: {{ $labels.reason }}",
        '{{ $labels.instance }} refuses {{ printf "%.2f" $value }} OTLP requests per second for the reason '
        '"{{ $labels.reason }}".',
    ),
    Alert(
        "HopwatchJournalBacklog",
        f"hopwatch_journal_backlog_bytes > {BACKLOG_BYTES}",
        "5m",
        "warning",
        "The engine is {{ $value | humanize1024 }}B behind the journal",
        "{{ $labels.instance }} has acknowledged {{ $value | humanize1024 }}B that the engine has not taken. When the "
        "journal is full the collector refuses what comes.",
    ),
    Alert(
        "HopwatchEngineFailing",
        "sum by (instance, kind) (increase(hopwatch_engine_failures_total[5m])) > 0",
        "5m",
        "critical",
        "The engine fails: {{ $labels.kind }}",
        "{{ $labels.instance }} cannot write to its engine and tries again. Nothing is lost while the journal has room.",
    ),
    Alert(
        "HopwatchRetentionHeld",
        "hopwatch_retention_held_days > 0",
        "15m",
        "warning",
        "{{ $value }} days are older than the retention and kept",
        "{{ $labels.instance }} drops no days: {{ $value }} of them have grown too old at once, which is more than it drops without "
        "being told to. The disk fills up meanwhile.",
    ),
    Alert(
        "HopwatchVerdictMismatch",
        "sum by (instance) (increase(hopwatch_verdict_mismatch_total[1h])) > 0",
        "0m",
        "warning",
        "Deliveries were judged otherwise though nothing new was known of them",
        "A sample of open deliveries that {{ $labels.instance }} judged again came out otherwise than it is kept. They were put right; "
        "others may not have been. This is a fault of hopwatch.",
    ),
)


def rules(grafana: str) -> dict[str, Any]:
    """The rule file's content; runbook links lead to the dashboard at `grafana`, a URL."""
    runbook = f"{grafana.rstrip('/')}/d/{UID}/{UID}?viewPanel={RUNBOOK_PANEL}"
    return {"groups": [{"name": "hopwatch", "rules": [_rule(alert, runbook) for alert in ALERTS]}]}


def _rule(alert: Alert, runbook: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.lasting,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": runbook,
            "dashboard": UID,
        },
    }
