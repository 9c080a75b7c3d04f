"""The dashboard: overview, rates and errors and duration, lag and undelivered, topology, the collector itself."""

from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    TextBoxVariable,
)
from grafana_foundation_sdk.models import dashboard as model

from dashboards.panels import SOURCE, figure, graph, lines, over_time, prose, rows, stacked
from hopwatch_collector.api.models import UNDELIVERED, Verdict

UID = "hopwatch"
RUNBOOK_PANEL = 601
"""Panel that shows the runbook; alerts link to it."""

# Several collectors over one store derive the same numbers: the largest, never the sum, of their series.
ONCE = "max without (instance)"
SERVICE = 'service=~"$service"'
DESTINATION = 'destination=~"$destination"'
ERRORS = 'status_code="STATUS_CODE_ERROR"'
NOT_DELIVERED = f'verdict=~"{"|".join(sorted(UNDELIVERED - {Verdict.UNKNOWN}))}"'
BY_RECEIVER = "system, destination, receiver"


def rate(metric: str, *selectors: str) -> str:
    """Per-second rate of a counter the collector counts itself."""
    return (
        f"rate({metric}{{{', '.join(selectors)}}}[$__rate_interval])"
        if selectors
        else f"rate({metric}[$__rate_interval])"
    )


def derived_rate(metric: str, *selectors: str) -> str:
    """Per-second rate of a counter derived from the store."""
    return f"{ONCE} ({rate(metric, *selectors)})"


def quantile(share: float, by: str, rates: str) -> str:
    """Quantile of a histogram's bucket rates, per `by`."""
    return f"histogram_quantile({share}, sum by ({by}, le) ({rates}))"


def build(runbook: str) -> model.Dashboard:
    """The whole dashboard; `runbook` is the text its last row shows."""
    board = (
        Dashboard("hopwatch")
        .uid(UID)
        .description(
            "Where messages are, who got them, who did not. Generated: edit dashboards/board.py instead."
        )
        .tags(["hopwatch", "messaging"])
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("10s")
        .timezone("browser")
        .annotation(_firing_alerts())
    )
    for variable in _variables():
        board.with_variable(variable)
    _overview(board)
    _red(board)
    _lag_and_undelivered(board)
    _topology(board)
    board.with_row(_collector())
    board.with_row(_runbook(runbook))
    return board.build()


def _variables() -> list[DatasourceVariable | QueryVariable | TextBoxVariable]:
    return [
        DatasourceVariable("datasource").label("Data source").type("prometheus"),
        _names("service", "Service", "traces_spanmetrics_calls_total"),
        _names("destination", "Destination", "hopwatch_deliveries"),
        TextBoxVariable("collector")
        .label("Collector")
        .description("Address of the collector's API as your browser reaches it; links lead there.")
        .default_value("http://127.0.0.1:4319"),
    ]


def _names(label: str, title: str, metric: str) -> QueryVariable:
    return (
        QueryVariable(label)
        .label(title)
        .datasource(SOURCE)
        .query(f"label_values({metric}, {label})")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _firing_alerts() -> AnnotationQuery:
    return (
        AnnotationQuery()
        .name("Firing alerts")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("red")
        .expr('ALERTS{alertname=~"Hopwatch.+", alertstate="firing"}')
        .title_format("{{alertname}}")
        .text_format("{{destination}} {{receiver}}")
    )


def _overview(board: Dashboard) -> None:
    board.with_row(Row("Overview").id(100))
    deliveries = f"{ONCE} (hopwatch_deliveries{{{DESTINATION}}})"
    missed = f"{ONCE} (hopwatch_deliveries{{{DESTINATION}, {NOT_DELIVERED}}})"
    calls = derived_rate("traces_spanmetrics_calls_total", SERVICE)
    failed = derived_rate("traces_spanmetrics_calls_total", SERVICE, ERRORS)
    for panel in (
        figure(
            101,
            "Undelivered",
            "Deliveries of the last hour that a person should look at: dead-lettered, returned, refused, stuck, "
            "overdue, without a receiver, and so on. `hopwatch undelivered` tells their causes.",
            "short",
            f"sum({missed}) or vector(0)",
            alarming_from=1,
        ),
        figure(
            102,
            "Settled",
            "Share of the last hour's deliveries that their receivers have settled.",
            "percentunit",
            f'sum({ONCE} (hopwatch_deliveries{{{DESTINATION}, verdict="settled"}})) / sum({deliveries})',
        ),
        figure(
            103,
            "Waiting",
            "Messages that receivers are owed and have not received.",
            "short",
            f"sum({ONCE} (hopwatch_lag_messages{{{DESTINATION}}}))",
        ),
        figure(
            104,
            "Oldest waiting",
            "How long the oldest message waits that a receiver is owed.",
            "s",
            f"max(hopwatch_lag_seconds{{{DESTINATION}}})",
            alarming_from=60,
        ),
        figure(105, "Spans", "Spans the services' work makes per second.", "cps", f"sum({calls})"),
        figure(
            106,
            "Errors",
            "Share of spans that ended with an error.",
            "percentunit",
            f"(sum({failed}) or vector(0)) / sum({calls})",
            alarming_from=0.05,
        ),
    ):
        board.with_panel(panel)


def _red(board: Dashboard) -> None:
    board.with_row(Row("Rates, errors, duration").id(200))
    calls = derived_rate("traces_spanmetrics_calls_total", SERVICE)
    failed = derived_rate("traces_spanmetrics_calls_total", SERVICE, ERRORS)
    took = derived_rate("traces_spanmetrics_latency_bucket", SERVICE)
    board.with_panel(
        lines(
            201,
            "Rate by service",
            "Spans per second of each service.",
            "cps",
            over_time(f"sum by (service) ({calls})", "{{service}}"),
        )
    )
    board.with_panel(
        lines(
            202,
            "Errors by service",
            "Share of each service's spans that ended with an error.",
            "percentunit",
            over_time(
                f"(sum by (service) ({failed}) or sum by (service) ({calls}) * 0) / sum by (service) ({calls})",
                "{{service}}",
            ),
        )
    )
    board.with_panel(
        lines(
            203,
            "Duration by service",
            "95th and 50th percentile of how long each service's spans take.",
            "s",
            over_time(quantile(0.95, "service", took), "{{service}} p95", exemplars=True),
            over_time(quantile(0.5, "service", took), "{{service}} p50", "B"),
        )
    )
    board.with_panel(
        lines(
            204,
            "Slowest operations",
            "The ten operations with the highest 95th percentile.",
            "s",
            over_time(
                f"topk(10, {quantile(0.95, 'service, span_name', took)})",
                "{{service}} {{span_name}}",
                exemplars=True,
            ),
        )
    )


def _lag_and_undelivered(board: Dashboard) -> None:
    board.with_row(Row("Lag and undelivered").id(300))
    deliveries = f"{ONCE} (hopwatch_deliveries{{{DESTINATION}}})"
    missed = f"{ONCE} (hopwatch_deliveries{{{DESTINATION}, {NOT_DELIVERED}}})"
    board.with_panel(
        lines(
            301,
            "Waiting by receiver",
            "Messages that each receiver is owed and has not received.",
            "short",
            over_time(
                f"max by ({BY_RECEIVER}) (hopwatch_lag_messages{{{DESTINATION}}})",
                "{{destination}} → {{receiver}}",
            ),
        )
    )
    board.with_panel(
        lines(
            302,
            "Oldest waiting by receiver",
            "How long the oldest message waits that each receiver is owed. Ten longest.",
            "s",
            over_time(
                f"topk(10, max by ({BY_RECEIVER}) (hopwatch_lag_seconds{{{DESTINATION}}}))",
                "{{destination}} → {{receiver}}",
            ),
        )
    )
    board.with_panel(
        stacked(
            lines(
                303,
                "Deliveries by verdict",
                "What became of the deliveries of the hour before each moment.",
                "short",
                over_time(f"sum by (verdict) ({deliveries})", "{{verdict}}"),
                width=24,
            )
        )
    )
    board.with_panel(
        rows(
            304,
            "Undelivered by destination and receiver",
            "The last hour's deliveries that a person should look at. A row's link lists them, each with its reason, "
            "its flow and its trace.",
            "short",
            f"sort_desc(sum by (verdict, destination, receiver) ({missed}) > 0)",
            {
                "verdict": "verdict",
                "destination": "destination",
                "receiver": "receiver",
                "Value": "deliveries",
            },
            DashboardLink("Show these deliveries")
            .url(
                "${collector}/api/v1/deliveries?verdict=${__data.fields.verdict:percentencode}"
                "&destination=${__data.fields.destination:percentencode}"
                "&receiver=${__data.fields.receiver:percentencode}"
            )
            .target_blank(True),
        )
    )


def _topology(board: Dashboard) -> None:
    board.with_row(Row("Topology").id(400))
    between = "client, server, connection_type"
    requests = _either_end("traces_service_graph_request_total")
    failed = _either_end("traces_service_graph_request_failed_total")
    board.with_panel(
        graph(
            401,
            "Who sends to whom",
            "Calls and messages per second from service to service.",
            "cps",
            f'label_join(label_replace(label_replace(sum by ({between}) ({requests}), "source", "$1", "client", "(.*)"), '
            '"target", "$1", "server", "(.*)"), "id", "|", "client", "connection_type", "server")',
        )
    )
    board.with_panel(
        lines(
            402,
            "Rate between services",
            "Calls and messages per second from one service to another.",
            "cps",
            over_time(f"sum by ({between}) ({requests})", "{{client}} → {{server}} {{connection_type}}"),
        )
    )
    board.with_panel(
        lines(
            403,
            "Failures between services",
            "Calls and messages per second that failed or were not delivered.",
            "cps",
            over_time(f"sum by ({between}) ({failed})", "{{client}} → {{server}} {{connection_type}}"),
        )
    )


def _either_end(metric: str) -> str:
    ends = (derived_rate(metric, f'{end}=~"$service"') for end in ("client", "server"))
    return f"({' or '.join(ends)})"


def _collector() -> Row:
    row = Row("The collector itself").id(500)
    by_instance = "{{instance}}"
    for panel in (
        lines(
            501,
            "Spans received",
            "Spans acknowledged, and spans the engine took, per second.",
            "cps",
            over_time(
                f"sum by (instance) ({rate('hopwatch_ingest_spans_total')})", f"{by_instance} acknowledged"
            ),
            over_time(
                f"sum by (instance) ({rate('hopwatch_engine_spans_total')})",
                f"{by_instance} in the engine",
                "B",
            ),
        ),
        lines(
            502,
            "Requests by outcome",
            "OTLP requests per second, by protocol and outcome.",
            "reqps",
            over_time(
                f"sum by (protocol, outcome) ({rate('hopwatch_ingest_requests_total')})",
                "{{protocol}} {{outcome}}",
            ),
        ),
        lines(
            503,
            "Refused by reason",
            "OTLP requests refused per second. Senders retry some of them; see the runbook.",
            "reqps",
            over_time(f"sum by (reason) ({rate('hopwatch_ingest_refused_total')})", "{{reason}}"),
        ),
        lines(
            504,
            "Journal",
            "Bytes acknowledged and not yet in the engine, and bytes the journal takes on disk.",
            "bytes",
            over_time("hopwatch_journal_backlog_bytes", f"{by_instance} backlog"),
            over_time("hopwatch_journal_disk_bytes", f"{by_instance} on disk", "B"),
        ),
        lines(
            505,
            "Journal fsync",
            "99th percentile of one group write and fsync: what every acknowledgement waits for.",
            "s",
            over_time(quantile(0.99, "instance", rate("hopwatch_journal_fsync_seconds_bucket")), by_instance),
        ),
        lines(
            506,
            "Engine inserts",
            "99th percentile of one insert through all views.",
            "s",
            over_time(quantile(0.99, "instance", rate("hopwatch_engine_insert_seconds_bucket")), by_instance),
        ),
        lines(
            507,
            "Query duration",
            "95th percentile of queries by route, waiting for their turn included.",
            "s",
            over_time(quantile(0.95, "route", rate("hopwatch_query_seconds_bucket")), "{{route}}"),
        ),
        lines(
            508,
            "Query errors",
            "Queries per second that failed, hit a limit or were turned away.",
            "cps",
            over_time(f"sum by (route) ({rate('hopwatch_query_errors_total')})", "{{route}}"),
        ),
        lines(
            509,
            "Live viewers",
            "Live streams being watched.",
            "short",
            over_time("sum by (instance) (hopwatch_live_viewers)", by_instance),
        ),
        lines(
            510,
            "Series left out",
            "Series left out of /metrics because their family has too many: the panels above lack them.",
            "short",
            over_time("max by (family) (hopwatch_metrics_series_dropped)", "{{family}}"),
        ),
        lines(
            511,
            "Clocks",
            "What is taken off each host's times: how far its clock is ahead of the collector's, where hops show that it is off.",
            "s",
            over_time(f"{ONCE} (hopwatch_clock_corrected_seconds)", "{{host}}"),
        ),
    ):
        row.with_panel(panel)
    return row


def _runbook(runbook: str) -> Row:
    return (
        Row("What to do when an alert fires")
        .id(600)
        .with_panel(
            prose(RUNBOOK_PANEL, "Runbook", "What each alert means, and what to look at first.", runbook)
        )
    )
