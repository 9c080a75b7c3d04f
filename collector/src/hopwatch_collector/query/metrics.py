"""What /metrics shows of the stored spans and deliveries."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

from hopwatch_collector.api.models import ClockList, LagRow, Verdict
from hopwatch_collector.engine import Row, Store
from hopwatch_collector.query.ledger import Receiver
from hopwatch_collector.query.losses import losses

Sample = tuple[str, Mapping[str, str], float]
"""One exported number: sample name (with `_total`, `_bucket`, … where it has one), labels, value."""

Family = tuple[str, Callable[[], Iterable[Sample]]]
"""What a group of exported numbers is about, and what asks for them."""

MAX_SERIES: Final = 500
"""Time series of one family that are asked of the engine; one more tells that some were left out."""

_BEGINNING: Final = datetime(1970, 1, 2, tzinfo=UTC)

_BOUNDS_S: Final = tuple(2**power / 1000 for power in range(1, 15))
"""Upper bounds of the buckets of span_totals, in seconds; the last bucket has none."""


def of_spans(store: Store) -> tuple[Family, ...]:
    """Return the families that are made of spans."""

    def spans() -> Iterator[Sample]:
        totals = store.query("span_totals", {"top": MAX_SERIES + 1})
        yield from _calls(totals)
        yield from _latency(totals)

    def lost() -> Iterator[Sample]:
        for loss in losses(store, _BEGINNING, MAX_SERIES + 1):
            for reason, count in loss.reasons.items():
                yield "hopwatch_service_spans_lost_total", {"service": loss.service, "reason": reason}, count

    return (
        ("spans", spans),
        ("service graph", lambda: _graph(store.query("edge_totals", {"top": MAX_SERIES + 1}))),
        ("losses", lost),
    )


def lag(rows: Iterable[LagRow]) -> Iterator[Sample]:
    """Return how many messages wait for each receiver, and for how long the oldest has."""
    for row in rows:
        labels = {"system": row.system, "destination": row.destination, "receiver": row.receiver}
        yield "hopwatch_lag_messages", labels, row.waiting
        yield "hopwatch_lag_seconds", labels, row.oldest_s


def deliveries(standing: Mapping[Receiver, Mapping[Verdict, int]]) -> Iterator[Sample]:
    """Return how many deliveries of each receiver have which verdict."""
    for (_, destination, receiver), verdicts in standing.items():
        for verdict, count in verdicts.items():
            labels = {"verdict": verdict.value, "destination": destination, "receiver": receiver}
            yield "hopwatch_deliveries", labels, count


def clocks(known: ClockList) -> Iterator[Sample]:
    """Return how far each host's clock is ahead, and what is taken off its times."""
    for clock in known.clocks:
        labels = {"host": clock.host}
        yield "hopwatch_clock_offset_seconds", labels, clock.offset_s
        yield "hopwatch_clock_corrected_seconds", labels, clock.corrected_s


def _calls(totals: list[Row]) -> Iterator[Sample]:
    for row in totals:
        labels = {**_span_labels(row), "status_code": f"STATUS_CODE_{row['status'].upper()}"}
        yield "traces_spanmetrics_calls_total", labels, sum(row["buckets"])


def _latency(totals: list[Row]) -> Iterator[Sample]:
    by_name = sorted(totals, key=_identity)
    for _, rows in groupby(by_name, _identity):
        group = list(rows)
        labels = _span_labels(group[0])
        counts = [sum(column) for column in zip(*(row["buckets"] for row in group), strict=True)]
        below = 0
        for bound, count in zip((*_BOUNDS_S, float("inf")), counts, strict=True):
            below += count
            le = "+Inf" if bound == float("inf") else repr(bound)
            yield "traces_spanmetrics_latency_bucket", {**labels, "le": le}, below
        yield "traces_spanmetrics_latency_sum", labels, sum(row["ns"] for row in group) / 1e9
        yield "traces_spanmetrics_latency_count", labels, below


def _identity(row: Row) -> tuple[Any, ...]:
    return row["service"], row["name"], row["kind"]


def _span_labels(row: Row) -> dict[str, str]:
    return {
        "service": row["service"],
        "span_name": row["name"],
        "span_kind": f"SPAN_KIND_{row['kind'].upper()}",
    }


def _graph(rows: list[Row]) -> Iterator[Sample]:
    for row in rows:
        labels = {"client": row["client"], "server": row["server"], "connection_type": row["connection_type"]}
        yield "traces_service_graph_request_total", labels, row["requests"]
        yield "traces_service_graph_request_failed_total", labels, row["failed"]
